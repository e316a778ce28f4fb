"""SMPL's mesh and joints for many people at once (Loper et al. 2015), from the user's own arrays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.models.crowdnet.rotations import from_axis_angle


@dataclass(frozen=True, eq=False)
class PosedBody:
    """B posed bodies in the frame of the root rotation (the crop's camera), metres."""

    vertices: Tensor  # [B, V, 3]
    joints: Tensor  # [B, 30, 3] regressed from the posed vertices


class SmplLayer(nn.Module):
    """Linear blend skinning with shape and pose blend shapes."""

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    weights: Tensor
    joint_template: Tensor
    joint_shapes: Tensor
    regressor: Tensor

    def __init__(self, arrays: SmplArrays, regressor: Tensor | None = None) -> None:
        """`regressor` [30, V] replaces that of the arrays."""
        super().__init__()
        self.parents = arrays.parents
        count = len(arrays.v_template)
        shapes = torch.from_numpy(arrays.shapedirs)
        rest = torch.from_numpy(arrays.j_regressor)
        wide = torch.from_numpy(arrays.regressor30) if regressor is None else regressor
        buffers = {
            "v_template": torch.from_numpy(arrays.v_template),
            "shapedirs": shapes.reshape(count * 3, -1),
            "posedirs": torch.from_numpy(arrays.posedirs).reshape(count * 3, -1),
            "weights": torch.from_numpy(arrays.weights),
            # The rest joints are linear in the shape: no need for the mesh.
            "joint_template": rest @ torch.from_numpy(arrays.v_template),
            "joint_shapes": torch.einsum("jv,vck->jck", rest, shapes),
            "regressor": wide,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.to(torch.float32).contiguous())

    def forward(
        self,
        pose: Tensor,  # [B, 72] axis-angles, radians
        shape: Tensor,  # [B, 10]
        translation: Tensor | None = None,  # [B, 3] metres
    ) -> PosedBody:
        """Posed meshes and joints; not centred on any joint."""
        batch = len(pose)
        local = from_axis_angle(pose.reshape(batch, -1, 3))  # [B, 24, 3, 3]
        eye = torch.eye(3, dtype=pose.dtype, device=pose.device)
        feature = (local[:, 1:] - eye).flatten(1)  # [B, 207]
        shaped = self.v_template + (shape @ self.shapedirs.T).reshape(batch, -1, 3)
        vertices = shaped + (feature @ self.posedirs.T).reshape(batch, -1, 3)
        rest = self.joint_template + torch.einsum("jck,bk->bjc", self.joint_shapes, shape)
        turn, move = self._chain(local, rest)
        rows = torch.cat([turn, move[..., None]], dim=3).flatten(2)  # [B, 24, 12]
        blended = (self.weights @ rows).reshape(batch, -1, 3, 4)
        posed = (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
        if translation is not None:
            posed = posed + translation[:, None]
        return PosedBody(posed, self.regressor @ posed)

    def _chain(self, local: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Each joint's motion of a rest point x: x -> A x + b, A [B, 24, 3, 3], b [B, 24, 3]."""
        turns: list[Tensor] = []
        places: list[Tensor] = []
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                turns.append(local[:, joint])
                places.append(rest[:, joint])
                continue
            turns.append(turns[parent] @ local[:, joint])
            offset = (rest[:, joint] - rest[:, parent])[..., None]
            places.append(places[parent] + (turns[parent] @ offset)[..., 0])
        turn = torch.stack(turns, dim=1)
        return turn, torch.stack(places, dim=1) - (turn @ rest[..., None])[..., 0]
