"""3DCrowdNet: an image and 2D keypoints of one person to an SMPL body. Our own implementation.

Architecture, constants and checkpoint format are those of the published network (Choi et al., "Learning to
Estimate Robust 3D Human Mesh from In-the-Wild Crowded Scenes", CVPR 2022); nothing here is its code. Its
weights, SMPL and VPoser are the user's own files, under their own licenses (`models.store`).

| module | what it holds |
| --- | --- |
| `layout` | joint sets, skeleton, constants |
| `boxes` | the boxes around keypoints that become network inputs |
| `inputs` | patches and joint tensors |
| `network` | the network, layer by layer, with the names of the official checkpoint |
| `fast` | the same numbers from stacked, folded, batched layers |
| `rotations` | 6D numbers, matrices, axis-angles |
| `smpl_layer` | SMPL's mesh and 30 joints, batched |
| `placement` | from the network's three camera numbers to metres in the photo |
| `checkpoint` | official checkpoints in, strict |
| `fitter` | the `BodyFitter` |

Importing this package imports no torch.
"""
