"""Closest faces by NVIDIA Warp: `bvh` (exact, all faces) and `tables` (most faces looked up).

`tables` uses that only neck and head move. Faces that never move, and faces that move rigidly with the head,
keep their nearest-face map in the world's and in the head's frame: two grids of face numbers, filled once per
rig, give a point at most eight candidates each, which are tested exactly on the posed mesh. Only the few
blended faces between them are searched: by groups on a CPU, by a tree on a GPU. A wrong face of the right
class moves a point alike, so the rare misses hardly show; the tests hold them to a contract.
"""

from __future__ import annotations

import collections
import functools
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp
from torch import Tensor

from portraitgan.deformation import group_kernels, warp_kernels
from portraitgan.deformation.closest import Closest, PosedSearch, tie_table
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.groups import FaceGroups, PosedGroups
from portraitgan.deformation.skinning import FaceClass, SkinnedMesh
from portraitgan.deformation.tables import CORRECTIVE_TOLERANCE, NodeTable, fill_table

log = logging.getLogger(__name__)


def _start() -> None:
    """`wp.init`, without its native complaint on stderr about the driver of a GPU that is not there."""
    if torch.cuda.is_available():
        wp.init()
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_start()
_LAUNCH_LOCK = threading.Lock()
_POINTS_PER_THREAD = 4096
"""A CPU launch smaller than this is not worth another thread."""


class BvhSearch:
    """Every point against a bounding-volume tree over all faces, refitted for every pose; exact."""

    def __init__(self, mesh: SkinnedMesh) -> None:
        self.faces = mesh.faces
        self.ties = tie_table(mesh.faces)
        self.trees = _TreePool(mesh.vertices, mesh.faces)

    def __deepcopy__(self, memo: dict[int, Any]) -> BvhSearch:
        """A copied network (the EMA of weights) shares the search: it holds no pose."""
        return self

    def pose(self, posed: Tensor, head: Tensor) -> PosedSearch:
        """See `ClosestFaces`: posed [B, V, 3] metres; `head` is not used."""
        trees = self.trees.take(posed)
        return _PosedTree(self, trees, posed[:, self.faces.to(posed.device)].contiguous())


class TableSearch:
    """Tables for the faces that move rigidly, a tree for the others."""

    def __init__(
        self,
        mesh: SkinnedMesh,
        resolution: int = 96,
        max_distance: float = 0.25,
        tolerance: float = 1e-4,
        closest_only: bool = True,
        trees_only: bool = False,
    ) -> None:
        """Fill the tables: `resolution` nodes a metre. Raises `DeformationError` for a bad resolution.

        Blended faces are searched by groups on a CPU (`group_kernels`) and by a tree on a GPU, or everywhere
        with `trees_only`.

        Without `closest_only`, a point that surely belongs to a rigid class gets any nearby face of that
        class and a distance that may be off by a node's distance: all faces of a class move a point alike,
        so the `face` mode loses nothing. It has no effect on a rig with pose correctives.
        """
        if resolution < 8:
            raise DeformationError(f"deformation.table_resolution must be at least 8, not {resolution}")
        self.faces = mesh.faces
        self.ties = tie_table(mesh.faces)
        self.max_distance = max_distance
        self.cell = 1.0 / (resolution - 1)
        classes = mesh.face_classes(tolerance, CORRECTIVE_TOLERANCE)
        self.slack = 0.0 if mesh.correctives is None else 2 * CORRECTIVE_TOLERANCE
        self.any_face_will_do = not closest_only and mesh.correctives is None
        self.blended = (classes == FaceClass.BLENDED).nonzero()[:, 0]
        self.static = _fill(mesh, classes == FaceClass.STATIC, self.cell, max_distance)
        self.head = _fill(mesh, classes == FaceClass.HEAD, self.cell, max_distance)
        self.trees = _TreePool(mesh.vertices, mesh.faces[self.blended])
        self.groups: FaceGroups | None = None
        if not trees_only and len(self.blended) > 0 and self.faces.device.type == "cpu" and groups_run():
            self.groups = FaceGroups(mesh.vertices, mesh.faces, self.blended)

    def __deepcopy__(self, memo: dict[int, Any]) -> TableSearch:
        """A copied network (the EMA of weights) shares the search: it holds no pose."""
        return self

    def pose(self, posed: Tensor, head: Tensor) -> PosedSearch:
        """See `ClosestFaces`: posed [B, V, 3] metres, head [B, 3, 4]."""
        corners = posed[:, self.faces.to(posed.device)].contiguous()
        rows = torch.cat([head[:, :, :3], head[:, None, :, 3]], dim=1).contiguous()
        if self.groups is not None and posed.device.type == "cpu":
            return _PosedTables(self, [], self.groups.pose(corners), corners, rows)
        return _PosedTables(self, self.trees.take(posed), None, corners, rows)


def _fill(mesh: SkinnedMesh, chosen: Tensor, cell: float, max_distance: float) -> NodeTable:
    """The table of the chosen faces, filled by a tree over them."""

    def nearest(nodes: Tensor, faces: Tensor, reach: float) -> Closest:
        tree = _TreePool(mesh.vertices, faces).take(mesh.vertices[None])
        corners = mesh.vertices[None, faces].contiguous()
        # Reported per listed face: the tie rule is applied later, to the posed mesh.
        identity = torch.arange(len(faces), device=nodes.device, dtype=torch.int32)[:, None].repeat(1, 7)
        return _run_tree(tree, corners, identity, nodes[None], reach)

    return fill_table(mesh, chosen, cell, max_distance, nearest)


class _TreePool:
    """Trees over the same faces, built on the neutral mesh and only refitted from pose to pose.

    So a result depends on the pose alone, not on what was asked before.
    """

    def __init__(self, neutral: Tensor, faces: Tensor) -> None:
        self.neutral, self.faces = neutral, faces
        self.free: dict[str, collections.deque[Any]] = {}

    def take(self, posed: Tensor) -> list[Any]:
        """One tree per sample of posed vertices [B, V, 3]; `give` them back."""
        if len(self.faces) == 0:
            return []
        device = wp.device_from_torch(posed.device)
        free = self.free.setdefault(str(device), collections.deque())
        trees = []
        for vertices in posed.contiguous():
            tree = free.pop() if free else self._build(posed.device)
            tree.points.assign(wp.from_torch(vertices, dtype=wp.vec3))
            tree.refit()
            trees.append(tree)
        return trees

    def _build(self, device: torch.device) -> Any:
        points: Any = wp.from_torch(self.neutral.to(device).contiguous(), dtype=wp.vec3)
        indices: Any = wp.from_torch(self.faces.reshape(-1).int().to(device), dtype=wp.int32)
        # The tree gets its own copy of the vertices: refitting writes into it.
        return wp.Mesh(points=wp.clone(points), indices=wp.clone(indices))

    def give(self, trees: list[Any]) -> None:
        """Trees that nobody asks any more."""
        for tree in trees:
            self.free[str(tree.device)].append(tree)


class _PosedTree:
    def __init__(self, backend: BvhSearch, trees: list[Any], corners: Tensor) -> None:
        self.backend, self.trees, self.corners = backend, trees, corners

    def __del__(self) -> None:
        self.backend.trees.give(self.trees)

    def __call__(self, points: Tensor, max_distance: float) -> Closest:
        ties = self.backend.ties.to(points.device)
        return _run_tree(self.trees, self.corners, ties, points, max_distance)


class _PosedTables:
    def __init__(
        self,
        backend: TableSearch,
        trees: list[Any],  # of the blended faces, where `groups` are not used
        groups: PosedGroups | None,
        corners: Tensor,
        head: Tensor,
    ) -> None:
        self.backend, self.trees, self.groups = backend, trees, groups
        self.corners, self.head = corners, head

    def __del__(self) -> None:
        self.backend.trees.give(self.trees)

    def __call__(self, points: Tensor, max_distance: float) -> Closest:
        backend = self.backend
        if max_distance > backend.max_distance:
            raise DeformationError(
                f"these tables were made for distances up to {backend.max_distance} m, not {max_distance} m; "
                "use deformation.search 'bvh'"
            )
        device = points.device
        inputs = [
            wp.from_torch(self.head, dtype=wp.vec3),
            *_table(backend.static, device),
            *_table(backend.head, device),
            1.0 / backend.cell,
            backend.slack,
            backend.any_face_will_do,
            wp.from_torch(self.corners.reshape(-1, 3, 3), dtype=wp.vec3),
            self.corners.shape[1],
            wp.from_torch(backend.ties.to(device)),
            max_distance,
        ]
        groups = self.groups
        if groups is None or backend.groups is None:
            numbers = wp.from_torch(backend.blended.int().to(device), dtype=wp.int32)
            inputs += [numbers, _identifiers(self.trees, device)]
            return _launch(warp_kernels.search_tables, points, inputs)
        rows, boxes, tops = (wp.from_torch(t.reshape(-1)) for t in (groups.rows, groups.boxes, groups.tops))
        numbers = wp.from_torch(backend.groups.numbers)
        inputs += [numbers, groups.count, rows, boxes, tops, groups.tops.shape[1]]
        return _launch(group_kernels.search_groups, points, inputs, int(group_kernels.POINTS))


def _table(table: NodeTable, device: torch.device) -> tuple[Any, Any]:
    """(what Warp's kernels know of a table, its faces)."""
    facts: Any = warp_kernels.Table()
    facts.distances = wp.from_torch(table.distances_on(device))
    facts.origin, facts.size = wp.vec3(*table.origin), wp.vec3i(*table.size)
    return facts, wp.from_torch(table.on(device))


@functools.cache
def groups_run() -> bool:
    """Whether this Warp compiles the grouped search; if not, the log says so and trees do it."""
    try:
        wp.load_module(group_kernels, device="cpu")
    except Exception as error:  # Warp raises whatever its compiler step ran into, as plain `Exception` too
        log.warning(
            "Warp %s cannot compile the grouped search (%s): "
            "blended faces are searched by trees, which takes about three times as long",
            wp.__version__,
            error,
        )
        return False
    return True


def move_points(points: Tensor, rows: Tensor, transforms: Tensor) -> Tensor:
    """[P, 3] = R x + t for points [P, 3] and transforms [T, 12] picked by `rows` [P] int32; CPU."""
    moved = torch.empty_like(points)
    _run(warp_kernels.move_points, [points, rows, transforms], [moved])
    return moved


def add_gradients(points: Tensor, rows: Tensor, grad: Tensor, count: int) -> Tensor:
    """[count, 12]: gradients [P, 3] times (x, 1), summed by `rows` [P] int32 except the last; CPU.

    One thread, so that sums are always made in the same order.
    """
    total = points.new_zeros(count, 12)
    _run(warp_kernels.add_gradients, [points, rows, grad, count - 1], [total])
    return total


def _run(kernel: Any, inputs: list[Any], outputs: list[Tensor]) -> None:
    """Launch once per row of the first input."""
    ready = [
        wp.from_torch(value.detach().contiguous()) if isinstance(value, Tensor) else value for value in inputs
    ]
    size = len(inputs[0])
    if size:
        wp.launch(kernel, dim=size, inputs=ready, outputs=[wp.from_torch(t) for t in outputs], device="cpu")


def _run_tree(
    trees: list[Any], corners: Tensor, ties: Tensor, points: Tensor, max_distance: float
) -> Closest:
    """Closest faces [B, N] of points [B, N, 3] by one tree per sample; corners are [B, F, 3, 3]."""
    inputs = [
        _identifiers(trees, points.device),
        wp.from_torch(corners.reshape(-1, 3, 3), dtype=wp.vec3),
        corners.shape[1],
        wp.from_torch(ties.contiguous()),
        max_distance,
    ]
    return _launch(warp_kernels.search_tree, points, inputs)


def _identifiers(trees: list[Any], device: torch.device) -> Any:
    """Warp's numbers of the trees, as an array that kernels take."""
    numbers = [tree.id for tree in trees] or [0]
    return wp.array(numbers, dtype=wp.uint64, device=wp.device_from_torch(device))


def _launch(kernel: Any, points: Tensor, inputs: list[Any], per_thread: int = 0) -> Closest:
    """Run a kernel over all points [B, N, 3]; on a CPU in as many slices as torch has threads.

    A kernel with `per_thread` points a launched thread is told where its slice ends.
    """
    batch, count = points.shape[:2]
    total = batch * count
    face = torch.empty((batch, count), dtype=torch.int32, device=points.device)
    distance = torch.empty((batch, count), dtype=torch.float32, device=points.device)
    if total == 0:
        return Closest(face, distance)
    flat = points.detach().float().reshape(-1, 3).contiguous()
    device = wp.device_from_torch(points.device)
    around = [wp.from_torch(flat, dtype=wp.vec3), count, *inputs]
    outputs = [wp.from_torch(face.reshape(-1)), wp.from_torch(distance.reshape(-1))]

    def run(first: int, size: int) -> None:
        slice_of = [first, first + size] if per_thread else [first]
        threads = -(-size // max(1, per_thread))
        wp.launch(kernel, dim=threads, inputs=[*slice_of, *around], outputs=outputs, device=device)

    if points.is_cuda:
        with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(points.device))):
            run(0, total)
        return Closest(face, distance)
    threads = min(torch.get_num_threads(), max(1, total // _POINTS_PER_THREAD))
    if threads == 1:
        run(0, total)
        return Closest(face, distance)
    with _LAUNCH_LOCK:  # compile once, before the threads start
        run(0, 1)
    size = -(-total // threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = [(first, min(size, total - first)) for first in range(0, total, size)]
        for done in [pool.submit(run, *part) for part in parts]:
            done.result()
    return Closest(face, distance)
