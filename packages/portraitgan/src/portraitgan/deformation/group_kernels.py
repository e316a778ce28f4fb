"""The `tables` search for a CPU: blended faces by its vector instructions instead of by a tree.

Warp hands the text of a native function to the clang it brings, whose vector types become whatever the
machine has (SSE, AVX2, AVX-512, NEON): eight faces or sixteen boxes are tested by the same instructions. A
point tests first the group that held its neighbour's closest face, which nearly always leaves only groups
that must be tested anyway. The result does not depend on that: every group is tested whose box may hold a
face as near as the nearest, and of equally near faces the first one wins.

Needs the extra `portraitgan[warp]`; the tree of `warp_kernels.search_tables` is the reference implementation.
"""

# Warp reads the annotations of its kernels: they are its types, not Python's, and must not become strings.
# mypy: ignore-errors

from typing import Any

import warp as wp

from portraitgan.deformation.groups import BOXES, ROWS, WIDTH
from portraitgan.deformation.warp_kernels import (
    NOTHING,
    Found,
    Table,
    decide,
    in_head_frame,
    nearest_node,
    test_face,
)

wp.set_module_options({"enable_backward": False})

POINTS = wp.constant(64)
"""Points a launched thread works through: neighbours along a ray, mostly."""

# Squared distances d^2 are off by about 2 d 1e-7 m, which is less than d^2 / 1e5 + 1e-9 for every d: the
# margin by which a box must be farther than the best face to be left out, so that rounding never decides it.
#
# Within 0.1 mm of the line where an edge takes over from a face's inside, the two distances differ by less
# than float32 can tell, while it tells well on which side of the line a point is. So an edge is counted as
# farther by a little more than the rounding, and a vertex by twice that: the inside wins where there is one.
_NEAREST = """
#pragma clang fp contract(fast)
typedef float Faces __attribute__((ext_vector_type(@WIDTH@), aligned(4)));
typedef int Numbers __attribute__((ext_vector_type(@WIDTH@)));
typedef float Boxes __attribute__((ext_vector_type(@BOXES@), aligned(4)));
typedef bool Flags __attribute__((ext_vector_type(@BOXES@)));

const float px = p[0], py = p[1], pz = p[2];
Faces best = reach * reach;  // a lane's smallest squared distance
Numbers winner = -1;  // and the group it came from
float limit = reach * reach * 1.00001f + 1e-9f;

auto larger = [](auto x, auto y) { return x > y ? x : y; };
auto smaller = [](auto x, auto y) { return x < y ? x : y; };
auto farther = [](Faces x) { return x * 1.000001f + 1e-12f; };
auto lowest = [](Faces x) {  // squared distances order like the integers of their bits, which compare faster
    return __builtin_bit_cast(float, __builtin_reduce_min(__builtin_bit_cast(Numbers, x)));
};
auto open = [&](const float* corners) {  // which of some boxes may hold a face that is near enough, as bits
    const Boxes* box = (const Boxes*)corners;
    const Boxes x = larger(larger(box[0] - px, px - box[3]), (Boxes)(0.0f));
    const Boxes y = larger(larger(box[1] - py, py - box[4]), (Boxes)(0.0f));
    const Boxes z = larger(larger(box[2] - pz, pz - box[5]), (Boxes)(0.0f));
    return (unsigned)__builtin_bit_cast(
        unsigned short, __builtin_convertvector(x * x + y * y + z * z <= limit, Flags));
};
auto to_edge = [&](Faces x, Faces y, Faces z, Faces ex, Faces ey, Faces ez, Faces inverse) {
    const Faces free = (x * ex + y * ey + z * ez) * inverse;
    const Faces along = smaller(larger(free, (Faces)(0.0f)), (Faces)(1.0f));
    x -= along * ex;
    y -= along * ey;
    z -= along * ez;
    const Faces found = x * x + y * y + z * z;
    return free == along ? found : farther(found);
};
auto test = [&](int group) {  // the nearest of the three edges, or, above and below the inside, the plane
    const Faces* row = (const Faces*)(rows.data + ((long long)sample * count + group) * (@ROWS@ * @WIDTH@));
    const Faces x = px - row[0], y = py - row[1], z = pz - row[2];
    const Faces ex = row[3], ey = row[4], ez = row[5], fx = row[6], fy = row[7], fz = row[8];
    Faces found = to_edge(x, y, z, ex, ey, ez, row[18]);
    found = smaller(found, to_edge(x, y, z, fx, fy, fz, row[19]));
    found = smaller(found, to_edge(x - ex, y - ey, z - ez, fx - ex, fy - ey, fz - ez, row[20]));
    found = farther(found);
    const Faces height = x * row[9] + y * row[10] + z * row[11];
    const Faces b = x * row[12] + y * row[13] + z * row[14];
    const Faces c = x * row[15] + y * row[16] + z * row[17];
    found = ((b >= 0.0f) & (c >= 0.0f) & (b + c <= row[21])) ? height * height : found;
    const Numbers better = (found < best) | ((found == best) & (group < winner));
    best = better ? found : best;
    winner = better ? (Numbers)(group) : winner;
    limit = lowest(best) * 1.00001f + 1e-9f;
};

if (hint >= 0)
    test(hint);
const int all = @BOXES@ * 6;  // numbers of as many boxes
for (int top = 0; top < top_count; ++top) {
    const long long here = (long long)sample * top_count + top;
    unsigned near_tops = open(tops.data + here * all);
    for (; near_tops; near_tops &= near_tops - 1) {
        const int leaf = __builtin_ctz(near_tops);
        unsigned near = open(boxes.data + (here * @BOXES@ + leaf) * all);
        for (; near; near &= near - 1) {
            const int group = (top * @BOXES@ + leaf) * @BOXES@ + __builtin_ctz(near);
            if (group != hint)
                test(group);
        }
    }
}
const Numbers lane = {@LANES@};
const int nothing = 0x7fffffff;
const Numbers wins = (best == lowest(best)) & (winner >= 0);
const int first = __builtin_reduce_min(wins ? winner * @WIDTH@ + lane : (Numbers)(nothing));
return first == nothing ? -1 : first;
"""
for _name, _value in (
    ("WIDTH", WIDTH), ("BOXES", BOXES), ("ROWS", ROWS), ("LANES", ", ".join(map(str, range(WIDTH)))),
):  # fmt: skip
    _NEAREST = _NEAREST.replace(f"@{_name}@", str(_value))


@wp.func_native(_NEAREST)
def nearest_in_groups(
    p: wp.vec3,
    reach: float,  # metres; faces farther away do not compete
    hint: int,  # the group to test first; -1: none
    sample: int,
    count: int,  # groups a sample
    rows: wp.array(dtype=float),  # the three parts of `groups.PosedGroups`
    boxes: wp.array(dtype=float),
    tops: wp.array(dtype=float),
    top_count: int,  # sixteens of tops a sample
) -> int:
    """The place of the closest face among the grouped ones; -1 if none is within reach."""
    ...


@wp.kernel
def search_groups(
    first: int,
    last: int,
    points: wp.array(dtype=wp.vec3),
    per_sample: int,
    heads: wp.array2d(dtype=wp.vec3),  # [samples, 4]: rows of the head's rotation, then its shift
    static_table: Table,
    static_faces: wp.array(dtype=Any),
    head_table: Table,
    head_faces: wp.array(dtype=Any),
    per_cell: float,
    slack: float,
    any_face_will_do: bool,
    corners: wp.array2d(dtype=wp.vec3),
    faces: int,
    ties: wp.array2d(dtype=wp.int32),
    max_distance: float,
    blended: wp.array(dtype=wp.int32),  # numbers of the grouped faces
    count: int,
    rows: wp.array(dtype=float),
    boxes: wp.array(dtype=float),
    tops: wp.array(dtype=float),
    top_count: int,
    face: wp.array(dtype=wp.int32),
    distance: wp.array(dtype=float),
):
    """`warp_kernels.search_tables` for points `first` to `last`, POINTS a thread."""
    start = first + wp.tid() * POINTS
    hint = wp.int32(-1)
    for i in range(start, wp.min(start + POINTS, last)):
        sample = i // per_sample
        first_row = sample * faces
        p = points[i]
        q = in_head_frame(p, sample, heads)
        static_node = nearest_node(p, static_table, per_cell, slack)
        head_node = nearest_node(q, head_table, per_cell, slack)
        reach = wp.min(max_distance, wp.min(static_node.high, head_node.high))
        slot = nearest_in_groups(p, reach, hint, sample, count, rows, boxes, tops, top_count)
        best = Found()
        best.face = NOTHING
        hint = NOTHING
        if slot >= 0:
            best = test_face(p, blended[slot], first_row, corners)
            hint = slot // wp.static(WIDTH)
        best = decide(
            p, q, best, static_node, head_node, static_table, static_faces, head_table, head_faces,
            per_cell, any_face_will_do, first_row, corners, ties, max_distance,
        )  # fmt: skip
        face[i] = best.face
        distance[i] = best.distance


for _kind in (wp.int16, wp.int32):  # the two widths of `tables.NodeTable.nodes`, so that one compilation does
    _faces = wp.array(dtype=_kind)
    wp.overload(search_groups, {"static_faces": _faces, "head_faces": _faces})
