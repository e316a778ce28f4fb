"""The deformation field: where a point around the posed body was around the canonical one.

`face` (equation 11): a point moves with the closest face, rigidly, if that is nearer than `max_distance`.
The map of a face is one 3x4 matrix, so a point only picks a matrix; nothing is built per point.
`smooth`: inverse skinning with the weights at the closest surface point. `rignerf` (equation 10): the
displacement of the closest surface point, divided by exp(distance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitgan.config import DeformationConfig
from portraitgan.deformation.closest import Closest, ClosestFaces, PosedSearch, on_triangles
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.search import make_search, warp_available
from portraitgan.deformation.skinning import JointTransforms, SkinnedMesh, check_pose, check_shape


class Deformation(nn.Module):
    """Warps points of posed space to canonical space for one rig."""

    def __init__(
        self, mesh: SkinnedMesh, config: DeformationConfig | None = None, search: ClosestFaces | None = None
    ) -> None:
        super().__init__()
        self.mesh = mesh
        self.config = config or DeformationConfig()
        if self.config.mode == "none":
            raise DeformationError("mode 'none' needs no Deformation: give the generator none")
        self._search = search

    @property
    def search(self) -> ClosestFaces:
        """The search backend, made for the device the mesh is on at first use."""
        if self._search is None:
            self._search = make_search(self.mesh, self.config)
        return self._search

    def posed(self, pose: Tensor, check: bool = True) -> PosedField:
        """The field of `pose` [B, 6] in radians; make it once per synthesis, outside any autocast.

        Raises `DeformationError` for a pose with another shape or numbers that are not finite. Without
        `check`, which makes a GPU wait, such numbers count as 0 here.
        """
        if check:
            check_pose(pose)
        else:
            check_shape(pose)
            pose = torch.nan_to_num(pose, nan=0.0, posinf=0.0, neginf=0.0)
        with torch.autocast(pose.device.type, enabled=False):
            pose = pose if pose.dtype == torch.float64 else pose.float()
            joints = self.mesh.joints(pose)
            vertices = self.mesh(pose, joints)
            transforms: Tensor | None = None
            if self.config.mode == "face":
                transforms = face_transforms(vertices, self.mesh.vertices, self.mesh.faces, self.mesh.static)
            offsets: Tensor | None = None
            if self.mesh.correctives is not None:
                offsets = self.mesh.corrected(pose) - self.mesh.vertices
            search = self.search.pose(vertices.detach(), joints.head.detach())
        return PosedField(self, vertices, joints, transforms, offsets, search)


@dataclass(frozen=True)
class PosedField:
    """The field of one batch of poses."""

    deformation: Deformation
    vertices: Tensor  # [B, V, 3] metres
    joints: JointTransforms
    transforms: Tensor | None  # [B, F, 3, 4] of mode `face`
    offsets: Tensor | None  # [B, V, 3] pose correctives, metres
    search: PosedSearch

    def closest(self, points: Tensor, max_distance: float | None = None) -> Closest:
        """Closest faces of points [B, N, 3]."""
        if points.ndim != 3 or points.shape[0] != self.vertices.shape[0] or points.shape[2] != 3:
            raise DeformationError(
                f"points of shape {tuple(points.shape)} do not fit {self.vertices.shape[0]} poses"
            )
        limit = self.deformation.config.max_distance if max_distance is None else max_distance
        with torch.no_grad():
            return self.search(points.detach(), limit)

    def warp(self, points: Tensor, closest: Closest | None = None) -> Tensor:
        """Canonical points [B, N, 3] of posed points [B, N, 3], metres; differentiable in pose and points."""
        config = self.deformation.config
        if config.mode == "rignerf":
            return self._rignerf(points, closest)
        closest = closest or self.closest(points)
        strength = fade(closest.distance, config.max_distance, config.fade)
        if config.mode == "face":
            assert self.transforms is not None
            return transform_points(points, self.transforms, closest.face, strength)
        return self._smooth(points, closest, strength)

    def _smooth(self, points: Tensor, closest: Closest, strength: Tensor | None) -> Tensor:
        """Inverse skinning with weights (and correctives) interpolated at the closest surface point."""
        faces, barycentric = self._surface(points, closest)
        weights = (self.deformation.mesh.weights.to(points.dtype)[faces] * barycentric[..., None]).sum(dim=-2)
        near = (closest.face >= 0)[..., None]
        moved: Tensor = InverseSkinning.apply(points, weights * near, self.joints.neck, self.joints.head)
        offset = self._corrective_offset(faces, barycentric)
        if offset is not None:
            moved = moved - torch.where(near, offset, 0)
        if strength is None:
            return moved
        return points + strength[..., None] * (moved - points)

    def _corrective_offset(self, faces: Tensor, barycentric: Tensor) -> Tensor | None:
        """Pose correctives [B, N, 3] at surface points; none for a rig without them."""
        if self.offsets is None:
            return None
        batch = torch.arange(faces.shape[0], device=faces.device)[:, None, None]
        return (self.offsets[batch, faces] * barycentric[..., None]).sum(dim=-2)

    def _rignerf(self, points: Tensor, closest: Closest | None) -> Tensor:
        """x + (canonical - posed closest surface point) / exp(distance), everywhere (equation 10)."""
        closest = closest or self.closest(points, max_distance=1e3)
        faces, barycentric = self._surface(points, closest)
        batch = torch.arange(points.shape[0], device=points.device)[:, None, None]
        canonical = self.deformation.mesh.vertices.to(points.dtype)
        displacement = canonical[faces] - self.vertices[batch, faces]
        moved = (displacement * barycentric[..., None]).sum(dim=-2)
        return points + moved * torch.exp(-closest.distance)[..., None]

    @torch.no_grad()
    def _surface(self, points: Tensor, closest: Closest) -> tuple[Tensor, Tensor]:
        """(vertex numbers, barycentric coordinates), each [B, N, 3], of the closest surface points."""
        faces = self.deformation.mesh.faces[closest.face.long().clamp(min=0)]
        batch = torch.arange(points.shape[0], device=points.device)[:, None]
        a, b, c = (self.vertices[batch, faces[..., k]] for k in range(3))
        return faces, on_triangles(points, a, b, c)[0]


def face_transforms(
    posed: Tensor,  # [B, V, 3]
    neutral: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    static: Tensor | None = None,  # [F] faces that get the exact identity
) -> Tensor:
    """Rigid maps [B, F, 3, 4] from every posed face's frame to its neutral one, differentiable.

    A frame is the first edge, the normal and their cross product (spec section 3.4). Faces that a pose
    collapses get a finite, meaningless map instead of NaN.
    """
    # Picked by `index_select`: the gradient of an index is a sorted sum on a GPU.
    corners = posed.index_select(1, faces.reshape(-1)).unflatten(1, faces.shape)
    origin, frame = _frames(corners)
    neutral_origin, neutral_frame = _frames(neutral.to(posed.dtype)[faces][None])
    rotation = neutral_frame @ frame.transpose(-1, -2)
    shift = neutral_origin - (rotation @ origin[..., None])[..., 0]
    transforms = torch.cat([rotation, shift[..., None]], dim=-1)
    if static is None:
        return transforms
    identity = torch.eye(3, 4, dtype=posed.dtype, device=posed.device)
    return torch.where(static[:, None, None], identity, transforms)


def _frames(corners: Tensor) -> tuple[Tensor, Tensor]:
    """(origins [..., 3], orthonormal frames [..., 3, 3] with tangent, normal, bitangent as columns)."""
    origin = corners[..., 0, :]
    first, second = corners[..., 1, :] - origin, corners[..., 2, :] - origin
    tangent = functional.normalize(first, dim=-1)
    normal = functional.normalize(torch.linalg.cross(first, second, dim=-1), dim=-1, eps=1e-20)
    bitangent = torch.linalg.cross(tangent, normal, dim=-1)
    return origin, torch.stack([tangent, normal, bitangent], dim=-1)


def fade(distance: Tensor, max_distance: float, width: float) -> Tensor | None:
    """Strength [B, N] of the displacement, falling smoothly to 0 over the last `width` metres; none: full."""
    if width == 0:
        return None
    rest = ((max_distance - distance) / width).clamp(0, 1)
    return rest * rest * (3 - 2 * rest)


def transform_points_plain(
    points: Tensor,  # [B, N, 3]
    transforms: Tensor,  # [B, F, 3, 4]
    face: Tensor,  # [B, N]; -1: the point stays
    strength: Tensor | None = None,  # [B, N]
) -> Tensor:
    """Points moved by their faces' maps, [B, N, 3]: the definition that `transform_points` must equal."""
    batch = torch.arange(points.shape[0], device=points.device)[:, None]
    chosen = transforms[batch, face.long().clamp(min=0)]
    moved = (chosen[..., :3] @ points[..., None])[..., 0] + chosen[..., 3]
    if strength is not None:
        moved = points + strength[..., None] * (moved - points)
    return torch.where((face >= 0)[..., None], moved, points)


def transform_points(
    points: Tensor,  # [B, N, 3] metres, posed
    transforms: Tensor,  # [B, F, 3, 4]
    face: Tensor,  # [B, N], negative: stays
    strength: Tensor | None = None,  # [B, N] in 0..1
) -> Tensor:
    """`transform_points_plain` that remembers 16 bytes a point (20 with `strength`) for its gradient."""
    output: Tensor = TransformPoints.apply(points, transforms, face, strength)
    return output


class TransformPoints(torch.autograd.Function):
    """Gradient to the transforms, and to the points when they ask for it."""

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, transforms: Tensor, face: Tensor, strength: Tensor | None
    ) -> Tensor:
        """See `transform_points`: points [B, N, 3] to [B, N, 3]."""
        face = face.to(torch.int32)
        ctx.save_for_backward(points, transforms, face, strength)
        rows = _rows(face, transforms.shape[1])
        moved = _move(points.reshape(-1, 3), rows, _identity_row(transforms)).reshape(points.shape)
        return moved if strength is None else torch.lerp(points, moved, strength[..., None])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """d/dT = sum of gradient [B, N, 3] x (x, 1) over the face's points; d/dx = R^T gradient."""
        points, transforms, face, strength = ctx.saved_tensors
        grad = grads[0]
        pulled = grad if strength is None else grad * strength[..., None]
        flat, flat_grad = points.reshape(-1, 3), pulled.reshape(-1, 3)
        batch, count = transforms.shape[:2]
        to_points: Tensor | None = None
        to_transforms: Tensor | None = None
        rows = _rows(face, count)
        if ctx.needs_input_grad[1]:
            total = _add_gradients(flat, rows, flat_grad, batch * count + 1)
            to_transforms = total[:-1].reshape(batch, count, 3, 4)
        if ctx.needs_input_grad[0]:
            chosen = _identity_row(transforms).index_select(0, rows)[:, :, :3]
            to_points = (chosen.transpose(1, 2) @ flat_grad[:, :, None])[..., 0].reshape(points.shape)
            if strength is not None:
                to_points = to_points + grad * (1 - strength[..., None])
        return to_points, to_transforms, None, None


class InverseSkinning(torch.autograd.Function):
    """x with (1 - a - b) x + a N(x) + b H(x) = points, for weights (a, b); saves 32 bytes a point."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, weights: Tensor, neck: Tensor, head: Tensor) -> Tensor:
        """points [B, N, 3], weights [B, N, 2], neck and head transforms [B, 3, 4] to [B, N, 3]."""
        linear, shift = _blend(weights, neck, head)
        moved: Tensor = torch.linalg.solve(linear, (points - shift)[..., None])[..., 0]
        ctx.save_for_backward(moved, weights, neck, head)
        return moved

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """With M the blended map: d/dpoints = M^-T g =: h [B, N, 3], d/dM = -h x (x, 1), by the weights."""
        moved, weights, neck, head = ctx.saved_tensors
        linear, _ = _blend(weights, neck, head)
        pulled = torch.linalg.solve(linear.transpose(-1, -2), grads[0][..., None])[..., 0]
        homogeneous = functional.pad(moved, (0, 1), value=1.0)
        to_neck = -(pulled * weights[..., :1]).transpose(1, 2) @ homogeneous
        to_head = -(pulled * weights[..., 1:]).transpose(1, 2) @ homogeneous
        return pulled, None, to_neck, to_head


def _blend(weights: Tensor, neck: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Blended maps of every point: (linear parts [B, N, 3, 3], shifts [B, N, 3])."""
    identity = torch.eye(3, 4, dtype=weights.dtype, device=weights.device)
    a, b = weights[..., 0, None, None], weights[..., 1, None, None]
    maps = identity + a * (neck[:, None] - identity) + b * (head[:, None] - identity)
    return maps[..., :3], maps[..., 3]


def _move(points: Tensor, rows: Tensor, transforms: Tensor) -> Tensor:
    """Points [P, 3] moved by transforms [T, 3, 4] picked by `rows` [P]."""
    if _fused(points):
        from portraitgan.deformation import warp_search

        return warp_search.move_points(points, rows, transforms.reshape(-1, 12))
    chosen = transforms.index_select(0, rows)
    # Not a product of matrices: millions of tiny ones keep a GPU busy for no reason.
    return (chosen * functional.pad(points, (0, 1), value=1.0)[:, None, :]).sum(dim=-1)


def _add_gradients(points: Tensor, rows: Tensor, grad: Tensor, count: int) -> Tensor:
    """[count, 12]: gradients [P, 3] times (x, 1), summed by `rows` [P]; the last row is not wanted."""
    if _fused(points):
        from portraitgan.deformation import warp_search

        return warp_search.add_gradients(points, rows, grad, count)
    outer = grad[:, :, None] * functional.pad(points, (0, 1), value=1.0)[:, None, :]
    return points.new_zeros(count, 12).index_add_(0, rows, outer.reshape(-1, 12))


def _fused(points: Tensor) -> bool:
    """Whether Warp's kernels do it: in float32 on a CPU, where eager operations are slowest."""
    return points.device.type == "cpu" and points.dtype == torch.float32 and warp_available()


def _rows(face: Tensor, count: int) -> Tensor:
    """Rows [B * N] of a table of B * `count` transforms and, as the last row, the identity for -1."""
    batch = face.shape[0]
    first = torch.arange(batch, device=face.device, dtype=torch.int32)[:, None] * count
    return torch.where(face >= 0, face + first, batch * count).reshape(-1)


def _identity_row(transforms: Tensor) -> Tensor:
    """Transforms [B, F, 3, 4] as rows [B * F + 1, 3, 4], the last of which is the identity."""
    identity = torch.eye(3, 4, dtype=transforms.dtype, device=transforms.device)[None]
    return torch.cat([transforms.reshape(-1, 3, 4), identity])
