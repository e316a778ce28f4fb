"""The `tables` search in Triton, for CUDA machines without Warp; formulas as in `warp_kernels`."""

# Triton reads these functions itself; to a type checker they are not Python.
# mypy: ignore-errors

import triton
import triton.language as tl

FEATURE_TOLERANCE = tl.constexpr(1.0e-6)
"""As in `closest.py`."""


@triton.jit
def on_triangle(px, py, pz, corner, wanted):
    """(weights v, w of the second and third corner, distance) of the closest points of triangles.

    `corner` points at nine numbers, one triangle for all points or one each; see `closest.on_triangles`.
    """
    ax = tl.load(corner, wanted, 0.0)
    ay = tl.load(corner + 1, wanted, 0.0)
    az = tl.load(corner + 2, wanted, 0.0)
    abx = tl.load(corner + 3, wanted, 0.0) - ax
    aby = tl.load(corner + 4, wanted, 0.0) - ay
    abz = tl.load(corner + 5, wanted, 0.0) - az
    acx = tl.load(corner + 6, wanted, 0.0) - ax
    acy = tl.load(corner + 7, wanted, 0.0) - ay
    acz = tl.load(corner + 8, wanted, 0.0) - az
    apx, apy, apz = px - ax, py - ay, pz - az
    ab_ab = abx * abx + aby * aby + abz * abz
    ab_ac = abx * acx + aby * acy + abz * acz
    ac_ac = acx * acx + acy * acy + acz * acz
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    d3, d4, d5, d6 = d1 - ab_ab, d2 - ab_ac, d1 - ab_ac, d2 - ac_ac
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = va + vb + vc
    total = tl.where(total == 0.0, 1.0, total)
    v, w = vb / total, vc / total
    # From the weakest to the strongest claim; later lines win.
    along_bc = tl.minimum(tl.maximum((d4 - d3) / tl.maximum(d4 - d3 + d5 - d6, 1.0e-30), 0.0), 1.0)
    on_bc = (va <= 0.0) & (d4 >= d3) & (d5 >= d6)
    v, w = tl.where(on_bc, 1.0 - along_bc, v), tl.where(on_bc, along_bc, w)
    along_ac = tl.minimum(tl.maximum(d2 / tl.maximum(ac_ac, 1.0e-30), 0.0), 1.0)
    on_ac = (vb <= 0.0) & (d2 >= 0.0) & (d6 <= 0.0)
    v, w = tl.where(on_ac, 0.0, v), tl.where(on_ac, along_ac, w)
    along_ab = tl.minimum(tl.maximum(d1 / tl.maximum(ab_ab, 1.0e-30), 0.0), 1.0)
    on_ab = (vc <= 0.0) & (d1 >= 0.0) & (d3 <= 0.0) & (ab_ab > 0.0)
    v, w = tl.where(on_ab, along_ab, v), tl.where(on_ab, 0.0, w)
    at_c = (d6 >= 0.0) & (d5 <= d6)
    at_b = (d3 >= 0.0) & (d4 <= d3)
    at_a = (d1 <= 0.0) & (d2 <= 0.0)
    v = tl.where(at_a, 0.0, tl.where(at_b, 1.0, tl.where(at_c, 0.0, v)))  # b and c may coincide
    w = tl.where(at_a | at_b, 0.0, tl.where(at_c, 1.0, w))
    ox = apx - v * abx - w * acx
    oy = apy - v * aby - w * acy
    oz = apz - v * abz - w * acz
    return v, w, tl.sqrt(ox * ox + oy * oy + oz * oz)


@triton.jit
def node_distance(gx, gy, gz, per_cell, nx, ny, nz, distances, here):
    """(the nearest node, the distance stored there, how far it is), metres; infinite outside the table.

    (gx, gy, gz): positions in cells.
    """
    x, y, z = tl.floor(gx + 0.5), tl.floor(gy + 0.5), tl.floor(gz + 0.5)
    inside = here & (x >= 0) & (y >= 0) & (z >= 0) & (x < nx) & (y < ny) & (z < nz)
    node = (x.to(tl.int32) * ny + y.to(tl.int32)) * nz + z.to(tl.int32)
    node = tl.where(inside, node, 0)
    stored = tl.load(distances + node, inside, float("inf"))
    dx, dy, dz = gx - x, gy - y, gz - z
    return node, stored, tl.where(inside, tl.sqrt(dx * dx + dy * dy + dz * dz) / per_cell, 0.0)


@triton.jit
def first_corner(gx, gy, gz, nx, ny, nz, asked):
    """(number of the lowest of the eight nodes around each point, whether there are eight)."""
    x, y, z = tl.floor(gx), tl.floor(gy), tl.floor(gz)
    inside = asked & (x >= 0) & (y >= 0) & (z >= 0) & (x < nx - 1) & (y < ny - 1) & (z < nz - 1)
    node = (x.to(tl.int32) * ny + y.to(tl.int32)) * nz + z.to(tl.int32)
    return tl.where(inside, node, 0), inside


@triton.jit
def candidates_of(
    px, py, pz, gx, gy, gz, ny, nz, nx, table, asked, corners, first_row, face, distance, best_v, best_w
):
    """The best known faces, or nearer ones among those stored at the eight nodes around each point."""
    node, inside = first_corner(gx, gy, gz, nx, ny, nz, asked)
    for k in range(8):
        offset = (k // 4) * ny * nz + ((k // 2) % 2) * nz + k % 2
        candidate = tl.load(table + node + offset, inside, -1).to(tl.int32)
        there = inside & (candidate >= 0)
        row = tl.where(there, candidate, 0).to(tl.int64) + first_row
        v, w, away = on_triangle(px, py, pz, corners + row * 9, there)
        nearer = there & (away < distance)
        face = tl.where(nearer, candidate, face)
        distance = tl.where(nearer, away, distance)
        best_v, best_w = tl.where(nearer, v, best_v), tl.where(nearer, w, best_w)
    return face, distance, best_v, best_w


@triton.jit
def search_tables(
    points,  # [B, N, 3]
    per_sample,  # N
    heads,  # [B, 4, 3]: rows of the head's rotation, then its shift
    static_table, static_distances, sx, sy, sz, snx, sny, snz,
    head_table, head_distances, hx, hy, hz, hnx, hny, hnz,
    per_cell,
    slack,  # how far correctives may move a face of a table, metres
    boxes,  # [B, G, 6]: lowest and highest corner of every group of blended faces
    groups,  # G
    blended,  # [G * GROUP]: their numbers
    blended_corners,  # [B, G * GROUP, 9]
    corners,  # [B, F, 9]
    faces,  # F
    ties,  # [F, 7]
    max_distance,
    face_out,  # [B, N]
    distance_out,  # [B, N]
    ANY_FACE: tl.constexpr,  # of the right class will do: see TableSearch
    GROUP: tl.constexpr,  # faces a group
    BLOCK: tl.constexpr,  # points a program
):  # fmt: skip
    """`warp_kernels.search_tables` for a block of points of one sample; blended faces in groups, no tree."""
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = i < per_sample
    place = sample * per_sample + i
    px = tl.load(points + place * 3, here, 0.0)
    py = tl.load(points + place * 3 + 1, here, 0.0)
    pz = tl.load(points + place * 3 + 2, here, 0.0)
    head = heads + sample * 12
    mx = px - tl.load(head + 9)
    my = py - tl.load(head + 10)
    mz = pz - tl.load(head + 11)
    qx = tl.load(head) * mx + tl.load(head + 3) * my + tl.load(head + 6) * mz
    qy = tl.load(head + 1) * mx + tl.load(head + 4) * my + tl.load(head + 7) * mz
    qz = tl.load(head + 2) * mx + tl.load(head + 5) * my + tl.load(head + 8) * mz
    sgx, sgy, sgz = (px - sx) * per_cell, (py - sy) * per_cell, (pz - sz) * per_cell
    hgx, hgy, hgz = (qx - hx) * per_cell, (qy - hy) * per_cell, (qz - hz) * per_cell
    static_node, static_stored, static_away = node_distance(
        sgx, sgy, sgz, per_cell, snx, sny, snz, static_distances, here
    )
    head_node, head_stored, head_away = node_distance(
        hgx, hgy, hgz, per_cell, hnx, hny, hnz, head_distances, here
    )
    static_low, static_high = static_stored - static_away - slack, static_stored + static_away + slack
    head_low, head_high = head_stored - head_away - slack, head_stored + head_away + slack

    reach = tl.minimum(max_distance, tl.minimum(static_high, head_high))
    distance = tl.where(here, reach, 0.0)
    face = tl.full((BLOCK,), -1, tl.int32)
    best_v = tl.zeros((BLOCK,), tl.float32)
    best_w = tl.zeros((BLOCK,), tl.float32)
    for g in range(groups):
        box = boxes + (sample * groups + g) * 6
        outside_x = tl.maximum(tl.maximum(tl.load(box) - px, px - tl.load(box + 3)), 0.0)
        outside_y = tl.maximum(tl.maximum(tl.load(box + 1) - py, py - tl.load(box + 4)), 0.0)
        outside_z = tl.maximum(tl.maximum(tl.load(box + 2) - pz, pz - tl.load(box + 5)), 0.0)
        away2 = outside_x * outside_x + outside_y * outside_y + outside_z * outside_z
        if tl.max(distance * distance - away2, axis=0) > 0.0:
            for k in range(GROUP):
                row = g * GROUP + k
                corner = blended_corners + (sample * groups * GROUP + row) * 9 + tl.zeros((BLOCK,), tl.int32)
                v, w, away = on_triangle(px, py, pz, corner, here)
                nearer = away < distance
                face = tl.where(nearer, tl.load(blended + row), face)
                distance = tl.where(nearer, away, distance)
                best_v, best_w = tl.where(nearer, v, best_v), tl.where(nearer, w, best_w)

    decided = face < -1  # nobody yet
    quick = face
    quick_distance = distance
    if ANY_FACE:
        # No blended face competes. Is one class nearer than the other, and within the limit, for sure?
        alone = here & (face < 0)
        static_sure = alone & (static_high < head_low) & (static_high < max_distance)
        stored = tl.load(static_table + static_node, static_sure, -1).to(tl.int32)
        decided = stored >= 0
        quick = tl.where(decided, stored, quick)
        quick_distance = tl.where(decided, static_stored, quick_distance)
        head_sure = alone & (head_high < static_low) & (head_high < max_distance)
        stored = tl.load(head_table + head_node, head_sure, -1).to(tl.int32)
        decided = decided | (stored >= 0)
        quick = tl.where(stored >= 0, stored, quick)
        quick_distance = tl.where(stored >= 0, head_stored, quick_distance)

    distance = tl.where(face < 0, max_distance, distance)
    first_row = sample * faces
    asked = here & (decided == 0) & (static_low < distance) & (static_low <= head_high)
    face, distance, best_v, best_w = candidates_of(
        px, py, pz, sgx, sgy, sgz, sny, snz, snx, static_table, asked, corners, first_row, face, distance,
        best_v, best_w,
    )  # fmt: skip
    asked = here & (decided == 0) & (head_low < distance)
    face, distance, best_v, best_w = candidates_of(
        px, py, pz, hgx, hgy, hgz, hny, hnz, hnx, head_table, asked, corners, first_row, face, distance,
        best_v, best_w,
    )  # fmt: skip

    zero_a = (1.0 - best_v - best_w) < FEATURE_TOLERANCE
    zero_b = best_v < FEATURE_TOLERANCE
    zero_c = best_w < FEATURE_TOLERANCE
    feature = tl.where(
        zero_a,
        tl.where(zero_b, 3, tl.where(zero_c, 2, 4)),
        tl.where(zero_b, tl.where(zero_c, 1, 5), tl.where(zero_c, 6, 0)),
    )
    found = here & (face >= 0) & (distance < max_distance)
    tied = tl.load(ties + tl.where(found, face, 0) * 7 + feature, found, -1)
    tl.store(face_out + place, tl.where(decided, quick, tied), here)
    tl.store(
        distance_out + place, tl.where(decided, quick_distance, tl.where(found, distance, float("inf"))), here
    )
