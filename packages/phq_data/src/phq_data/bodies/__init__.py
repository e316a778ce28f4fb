"""Body models: what a fitter fits, and where a `PortraitRig` comes from."""

JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "neck", "head",
    "left_shoulder", "right_shoulder", "left_hip", "right_hip",
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top",
)  # fmt: skip
"""Order of the joints that a fit carries. Left and right are the person's own."""

SMPL_JOINT_INDEX: dict[str, int] = {
    "pelvis": 0, "left_hip": 1, "right_hip": 2, "neck": 12, "head": 15,
    "left_shoulder": 16, "right_shoulder": 17, "nose": 24, "left_eye": 25, "right_eye": 26,
    "left_ear": 27, "right_ear": 28, "head_top": 29,
}  # fmt: skip
"""The same joints in the 30-joint order of the reference pipeline."""
