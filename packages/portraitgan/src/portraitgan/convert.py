"""Official checkpoints in: which tensors are kept, under which names (`portraitgan convert`)."""

from __future__ import annotations


def is_dropped(key: str) -> bool:
    """Whether an official state-dict key is a constant that is rebuilt here.

    Low-pass filters, the unused label statistics, and the body model with everything derived from it: its
    numbers are licensed and come from the user's rig.
    """
    return key.startswith("renderer.") or key.endswith("resample_filter") or key == "dataset_label_std"


def official_key(key: str) -> str | None:
    """Our name of an official tensor, none if it is dropped.

    Names are the same on purpose: module attributes here are called as they are there.
    """
    return None if is_dropped(key) else key
