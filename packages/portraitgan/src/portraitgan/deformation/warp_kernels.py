"""Closest-face kernels in NVIDIA Warp; one source for CPU and CUDA. Needs the extra `portraitgan[warp]`.

What only a CPU can do, searching faces by its vector instructions, is in `group_kernels`.
"""

# Warp reads the annotations of its kernels: they are its types, not Python's, and must not become strings.
# mypy: ignore-errors

from typing import Any

import warp as wp

# No banner, no line per compiled kernel; the setting's name changed over Warp's versions.
if hasattr(wp, "LOG_ERROR"):
    wp.config.log_level = wp.LOG_ERROR
else:
    wp.config.quiet = True
wp.set_module_options({"enable_backward": False})  # the search has no gradient

FEATURE_TOLERANCE = wp.constant(1.0e-6)
"""As in `closest.py`."""
NOTHING = wp.constant(-1)

candidates = wp.types.vector(length=8, dtype=wp.int32)


@wp.struct
class Found:
    """A face, how far it is, and where on it."""

    face: int
    distance: float
    bary: wp.vec3


@wp.struct
class Table:
    """A `tables.NodeTable` without its faces, which may be stored in two widths."""

    distances: wp.array(dtype=float)
    origin: wp.vec3
    size: wp.vec3i


@wp.struct
class NodeFacts:
    """The node of a table nearest to a point, and what it tells about the point's distance to the class."""

    node: int
    distance: float  # the node's own
    low: float
    high: float


@wp.func
def on_triangle(p: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.vec3:
    """Barycentric coordinates of the closest point of a triangle; the regions of `closest.on_triangles`."""
    ab = b - a
    ac = c - a
    ap = p - a
    d1 = wp.dot(ab, ap)
    d2 = wp.dot(ac, ap)
    if d1 <= 0.0 and d2 <= 0.0:
        return wp.vec3(1.0, 0.0, 0.0)
    ab_ac = wp.dot(ab, ac)
    ab_ab = wp.dot(ab, ab)
    d3 = d1 - ab_ab
    d4 = d2 - ab_ac
    if d3 >= 0.0 and d4 <= d3:
        return wp.vec3(0.0, 1.0, 0.0)
    ac_ac = wp.dot(ac, ac)
    d5 = d1 - ab_ac
    d6 = d2 - ac_ac
    if d6 >= 0.0 and d5 <= d6:
        return wp.vec3(0.0, 0.0, 1.0)
    vc = d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0 and ab_ab > 0.0:
        v = d1 / wp.max(ab_ab, 1.0e-30)
        return wp.vec3(1.0 - v, v, 0.0)
    vb = d5 * d2 - d1 * d6
    if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        w = d2 / wp.max(ac_ac, 1.0e-30)
        return wp.vec3(1.0 - w, 0.0, w)
    va = d3 * d6 - d5 * d4
    if va <= 0.0 and d4 >= d3 and d5 >= d6:
        w = (d4 - d3) / wp.max(d4 - d3 + d5 - d6, 1.0e-30)
        return wp.vec3(0.0, 1.0 - w, w)
    total = va + vb + vc
    if total == 0.0:
        total = 1.0
    return wp.vec3(va / total, vb / total, vc / total)


@wp.func
def feature(bary: wp.vec3) -> int:
    """Column of the tie table (see `closest.feature_of`)."""
    zero_a = bary[0] < FEATURE_TOLERANCE
    zero_b = bary[1] < FEATURE_TOLERANCE
    zero_c = bary[2] < FEATURE_TOLERANCE
    if zero_a:
        if zero_b:
            return 3
        if zero_c:
            return 2
        return 4
    if zero_b:
        if zero_c:
            return 1
        return 5
    if zero_c:
        return 6
    return 0


@wp.func
def test_face(p: wp.vec3, face: int, first_row: int, corners: wp.array2d(dtype=wp.vec3)) -> Found:
    """A face, how far it is from a point, and where on it."""
    row = first_row + face
    a = corners[row, 0]
    b = corners[row, 1]
    c = corners[row, 2]
    found = Found()
    found.face = face
    found.bary = on_triangle(p, a, b, c)
    found.distance = wp.length(p - (a * found.bary[0] + b * found.bary[1] + c * found.bary[2]))
    return found


@wp.kernel
def search_tree(
    first: int,
    points: wp.array(dtype=wp.vec3),  # all samples one after another
    per_sample: int,
    meshes: wp.array(dtype=wp.uint64),  # one per sample
    corners: wp.array2d(dtype=wp.vec3),  # [samples * faces, 3]
    faces: int,
    ties: wp.array2d(dtype=wp.int32),
    max_distance: float,
    face: wp.array(dtype=wp.int32),
    distance: wp.array(dtype=float),
):
    """Every point against the tree over all faces of its sample."""
    i = first + wp.tid()
    sample = i // per_sample
    p = points[i]
    face[i] = NOTHING
    distance[i] = wp.inf
    query = wp.mesh_query_point_no_sign(meshes[sample], p, max_distance)
    if query.result:
        found = test_face(p, query.face, sample * faces, corners)
        if found.distance < max_distance:
            face[i] = ties[query.face, feature(found.bary)]
            distance[i] = found.distance


@wp.func
def nodes_around(p: wp.vec3, table: Table, nodes: wp.array(dtype=Any), per_cell: float) -> candidates:
    """The faces stored at the eight nodes around a point, each once; -1 for the rest."""
    result = candidates(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    size = table.size
    g = (p - table.origin) * per_cell
    x = int(wp.floor(g[0]))
    y = int(wp.floor(g[1]))
    z = int(wp.floor(g[2]))
    if x < 0 or y < 0 or z < 0 or x >= size[0] - 1 or y >= size[1] - 1 or z >= size[2] - 1:
        return result
    corner = (x * size[1] + y) * size[2] + z
    count = wp.int32(0)
    for k in range(8):
        node = corner + (k // 4) * size[1] * size[2] + ((k // 2) % 2) * size[2] + k % 2
        candidate = int(nodes[node])
        known = candidate < 0
        for j in range(count):
            if result[j] == candidate:
                known = True
        if not known:
            result[count] = candidate
            count += 1
    return result


@wp.func
def nearest_node(p: wp.vec3, table: Table, per_cell: float, slack: float) -> NodeFacts:
    """What the nearest node says; infinite distances outside the table.

    A node knows its distance d to its class, so a point r away from it has a distance in d - r .. d + r.
    """
    facts = NodeFacts()
    facts.node = NOTHING
    facts.distance = wp.inf
    facts.low = wp.inf
    facts.high = wp.inf
    g = (p - table.origin) * per_cell
    x = wp.floor(g[0] + 0.5)
    y = wp.floor(g[1] + 0.5)
    z = wp.floor(g[2] + 0.5)
    i = int(x)
    j = int(y)
    k = int(z)
    if i < 0 or j < 0 or k < 0 or i >= table.size[0] or j >= table.size[1] or k >= table.size[2]:
        return facts
    away = wp.length(g - wp.vec3(x, y, z)) / per_cell + slack
    facts.node = (i * table.size[1] + j) * table.size[2] + k
    facts.distance = table.distances[facts.node]
    facts.low = facts.distance - away
    facts.high = facts.distance + away
    return facts


@wp.func
def nearest_of(
    p: wp.vec3, near: candidates, first_row: int, corners: wp.array2d(dtype=wp.vec3), limit: float
) -> Found:
    """The closest of a few candidate faces, if nearer than `limit`."""
    best = Found()
    best.face = NOTHING
    best.distance = limit
    for k in range(8):
        candidate = near[k]
        if candidate < 0:
            break
        found = test_face(p, candidate, first_row, corners)
        if found.distance < best.distance:
            best = found
    return best


@wp.func
def in_head_frame(p: wp.vec3, sample: int, heads: wp.array2d(dtype=wp.vec3)) -> wp.vec3:
    """Where a point was before the head moved."""
    moved = p - heads[sample, 3]
    return heads[sample, 0] * moved[0] + heads[sample, 1] * moved[1] + heads[sample, 2] * moved[2]


@wp.func
def decide(
    p: wp.vec3,
    q: wp.vec3,  # p in the head's frame
    blended: Found,  # the closest blended face that may compete; none: -1
    static_node: NodeFacts,
    head_node: NodeFacts,
    static_table: Table,
    static_faces: wp.array(dtype=Any),
    head_table: Table,
    head_faces: wp.array(dtype=Any),
    per_cell: float,
    any_face_will_do: bool,  # of the right class: see TableSearch
    first_row: int,
    corners: wp.array2d(dtype=wp.vec3),  # [samples * faces, 3]
    ties: wp.array2d(dtype=wp.int32),
    max_distance: float,
) -> Found:
    """The closest face after the tie rule; -1 and infinite if there is none within `max_distance`."""
    best = blended
    if best.face < 0:
        best.distance = max_distance
        if any_face_will_do:
            # No blended face competes. Is one class nearer than the other, and within the limit, for sure?
            if static_node.high < head_node.low and static_node.high < max_distance:
                best.face = int(static_faces[static_node.node])
                best.distance = static_node.distance
                return best
            if head_node.high < static_node.low and head_node.high < max_distance:
                best.face = int(head_faces[head_node.node])
                best.distance = head_node.distance
                return best
    if static_node.low < best.distance and static_node.low <= head_node.high:
        near = nodes_around(p, static_table, static_faces, per_cell)
        found = nearest_of(p, near, first_row, corners, best.distance)
        if found.face >= 0:
            best = found
    if head_node.low < best.distance:
        near = nodes_around(q, head_table, head_faces, per_cell)
        found = nearest_of(p, near, first_row, corners, best.distance)
        if found.face >= 0:
            best = found
    if best.face >= 0 and best.distance < max_distance:
        best.face = ties[best.face, feature(best.bary)]
    else:
        best.face = NOTHING
        best.distance = wp.inf
    return best


@wp.kernel
def search_tables(
    first: int,
    points: wp.array(dtype=wp.vec3),
    per_sample: int,
    heads: wp.array2d(dtype=wp.vec3),  # [samples, 4]: rows of the head's rotation, then its shift
    static_table: Table,
    static_faces: wp.array(dtype=Any),
    head_table: Table,
    head_faces: wp.array(dtype=Any),
    per_cell: float,
    slack: float,  # how far correctives may move a face of a table, metres
    any_face_will_do: bool,
    corners: wp.array2d(dtype=wp.vec3),
    faces: int,
    ties: wp.array2d(dtype=wp.int32),
    max_distance: float,
    blended: wp.array(dtype=wp.int32),  # numbers of the blended faces
    meshes: wp.array(dtype=wp.uint64),  # their trees, one per sample
    face: wp.array(dtype=wp.int32),
    distance: wp.array(dtype=float),
):
    """Tables for the rigid classes, a tree for the blended faces; `group_kernels` has the CPU's kernel."""
    i = first + wp.tid()
    sample = i // per_sample
    first_row = sample * faces
    p = points[i]
    q = in_head_frame(p, sample, heads)
    static_node = nearest_node(p, static_table, per_cell, slack)
    head_node = nearest_node(q, head_table, per_cell, slack)
    best = Found()
    best.face = NOTHING
    if blended.shape[0] > 0:
        reach = wp.min(max_distance, wp.min(static_node.high, head_node.high))
        query = wp.mesh_query_point_no_sign(meshes[sample], p, reach)
        if query.result:
            best = test_face(p, blended[query.face], first_row, corners)
    best = decide(
        p, q, best, static_node, head_node, static_table, static_faces, head_table, head_faces,
        per_cell, any_face_will_do, first_row, corners, ties, max_distance,
    )  # fmt: skip
    face[i] = best.face
    distance[i] = best.distance


@wp.kernel
def move_points(
    points: wp.array2d(dtype=float),  # [P, 3]
    rows: wp.array(dtype=wp.int32),  # [P]
    transforms: wp.array2d(dtype=float),  # [T, 12], the last one the identity
    moved: wp.array2d(dtype=float),  # [P, 3]
):
    """moved = R x + t with the point's own transform."""
    i = wp.tid()
    row = rows[i]
    x = points[i, 0]
    y = points[i, 1]
    z = points[i, 2]
    for k in range(3):
        moved[i, k] = (
            transforms[row, 4 * k] * x
            + transforms[row, 4 * k + 1] * y
            + transforms[row, 4 * k + 2] * z
            + transforms[row, 4 * k + 3]
        )


@wp.kernel
def add_gradients(
    points: wp.array2d(dtype=float),  # [P, 3]
    rows: wp.array(dtype=wp.int32),  # [P]
    grad: wp.array2d(dtype=float),  # [P, 3]
    last: int,  # the identity's row: nobody wants its gradient
    total: wp.array2d(dtype=float),  # [T, 12]
):
    """total[row] += gradient x (x, 1)."""
    i = wp.tid()
    row = rows[i]
    if row != last:
        for k in range(3):
            g = grad[i, k]
            wp.atomic_add(total, row, 4 * k, g * points[i, 0])
            wp.atomic_add(total, row, 4 * k + 1, g * points[i, 1])
            wp.atomic_add(total, row, 4 * k + 2, g * points[i, 2])
            wp.atomic_add(total, row, 4 * k + 3, g)
