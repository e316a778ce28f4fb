"""Closest-face kernels in NVIDIA Warp; one source for CPU and CUDA. Needs the extra `portraitgan[warp]`."""

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
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
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
        row = sample * faces + query.face
        a = corners[row, 0]
        b = corners[row, 1]
        c = corners[row, 2]
        bary = on_triangle(p, a, b, c)
        found = wp.length(p - (a * bary[0] + b * bary[1] + c * bary[2]))
        if found < max_distance:
            face[i] = ties[query.face, feature(bary)]
            distance[i] = found


@wp.func
def nodes_around(
    p: wp.vec3, origin: wp.vec3, per_cell: float, size: wp.vec3i, table: wp.array(dtype=Any)
) -> candidates:
    """The faces stored at the eight nodes around a point, each once; -1 for the rest."""
    result = candidates(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    g = (p - origin) * per_cell
    x = int(wp.floor(g[0]))
    y = int(wp.floor(g[1]))
    z = int(wp.floor(g[2]))
    if x < 0 or y < 0 or z < 0 or x >= size[0] - 1 or y >= size[1] - 1 or z >= size[2] - 1:
        return result
    corner = (x * size[1] + y) * size[2] + z
    count = wp.int32(0)
    for k in range(8):
        node = corner + (k // 4) * size[1] * size[2] + ((k // 2) % 2) * size[2] + k % 2
        candidate = int(table[node])
        known = candidate < 0
        for j in range(count):
            if result[j] == candidate:
                known = True
        if not known:
            result[count] = candidate
            count += 1
    return result


@wp.func
def node_distance(
    p: wp.vec3, origin: wp.vec3, per_cell: float, size: wp.vec3i, distances: wp.array(dtype=float)
) -> wp.vec2:
    """(distance stored at the nearest node, how far that node is), metres; infinite outside the table."""
    g = (p - origin) * per_cell
    x = int(wp.round(g[0]))
    y = int(wp.round(g[1]))
    z = int(wp.round(g[2]))
    if x < 0 or y < 0 or z < 0 or x >= size[0] or y >= size[1] or z >= size[2]:
        return wp.vec2(wp.inf, 0.0)
    away = wp.length(g - wp.vec3(float(x), float(y), float(z))) / per_cell
    return wp.vec2(distances[(x * size[1] + y) * size[2] + z], away)


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
        row = first_row + candidate
        a = corners[row, 0]
        b = corners[row, 1]
        c = corners[row, 2]
        bary = on_triangle(p, a, b, c)
        away = wp.length(p - (a * bary[0] + b * bary[1] + c * bary[2]))
        if away < best.distance:
            best.distance = away
            best.face = candidate
            best.bary = bary
    return best


@wp.kernel
def search_tables(
    first: int,
    points: wp.array(dtype=wp.vec3),
    per_sample: int,
    heads: wp.array2d(dtype=wp.vec3),  # [samples, 4]: rows of the head's rotation, then its shift
    static_table: wp.array(dtype=Any),
    static_distances: wp.array(dtype=float),
    static_origin: wp.vec3,
    static_size: wp.vec3i,
    head_table: wp.array(dtype=Any),
    head_distances: wp.array(dtype=float),
    head_origin: wp.vec3,
    head_size: wp.vec3i,
    per_cell: float,
    slack: float,  # how far correctives may move a face of a table, metres
    any_face_will_do: bool,  # of the right class: see TableSearch
    meshes: wp.array(dtype=wp.uint64),  # of the blended faces, one per sample
    blended: wp.array(dtype=wp.int32),  # their numbers
    corners: wp.array2d(dtype=wp.vec3),  # [samples * faces, 3]
    faces: int,
    ties: wp.array2d(dtype=wp.int32),
    max_distance: float,
    face: wp.array(dtype=wp.int32),
    distance: wp.array(dtype=float),
):
    """Which class is nearest is often clear from one node's distance per table; otherwise test exactly.

    A node knows its distance d to a class, so a point r away from it has a distance in d - r .. d + r.
    """
    i = first + wp.tid()
    sample = i // per_sample
    first_row = sample * faces
    p = points[i]
    face[i] = NOTHING
    distance[i] = wp.inf
    moved = p - heads[sample, 3]
    q = heads[sample, 0] * moved[0] + heads[sample, 1] * moved[1] + heads[sample, 2] * moved[2]
    static_node = node_distance(p, static_origin, per_cell, static_size, static_distances)
    head_node = node_distance(q, head_origin, per_cell, head_size, head_distances)
    static_low = static_node[0] - static_node[1] - slack
    static_high = static_node[0] + static_node[1] + slack
    head_low = head_node[0] - head_node[1] - slack
    head_high = head_node[0] + head_node[1] + slack
    reach = wp.min(max_distance, wp.min(static_high, head_high))
    best = Found()
    best.face = NOTHING
    best.distance = reach
    if blended.shape[0] > 0:
        query = wp.mesh_query_point_no_sign(meshes[sample], p, reach)
        if query.result:
            candidate = blended[query.face]
            a = corners[first_row + candidate, 0]
            b = corners[first_row + candidate, 1]
            c = corners[first_row + candidate, 2]
            best.bary = on_triangle(p, a, b, c)
            best.distance = wp.length(p - (a * best.bary[0] + b * best.bary[1] + c * best.bary[2]))
            best.face = candidate
    if any_face_will_do and best.face < 0:
        # No blended face competes. Is one class nearer than the other, and within the limit, for sure?
        if static_high < head_low and static_high < max_distance:
            near = nodes_around(p, static_origin, per_cell, static_size, static_table)
            if near[0] >= 0:
                face[i] = near[0]
                distance[i] = static_node[0]
                return
        if head_high < static_low and head_high < max_distance:
            near = nodes_around(q, head_origin, per_cell, head_size, head_table)
            if near[0] >= 0:
                face[i] = near[0]
                distance[i] = head_node[0]
                return
    if best.face < 0:
        best.distance = max_distance
    if static_low < best.distance and static_low <= head_high:
        near = nodes_around(p, static_origin, per_cell, static_size, static_table)
        found = nearest_of(p, near, first_row, corners, best.distance)
        if found.face >= 0:
            best = found
    if head_low < best.distance:
        near = nodes_around(q, head_origin, per_cell, head_size, head_table)
        found = nearest_of(p, near, first_row, corners, best.distance)
        if found.face >= 0:
            best = found
    if best.face >= 0 and best.distance < max_distance:
        face[i] = ties[best.face, feature(best.bary)]
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
