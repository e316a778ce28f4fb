"""A stage gets a network by name; a name that is none lists those there are."""

from __future__ import annotations

import pytest

from phq_data.errors import ModelError
from phq_data.models import registry
from phq_data.models.protocols import PersonDetector, Segmenter


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ModelError, match=r"no person detector called 'yolo9'; choose one of: .*movenet"):
        registry.person_detector("yolo9")
    with pytest.raises(ModelError, match=r"no segmenter called 'unet'; choose one of: .*selfie"):
        registry.segmenter("unet")
    with pytest.raises(ModelError, match=r"no body fitter called 'spin'; choose one of: .*smplify"):
        registry.body_fitter("spin")


def test_factories_speak_their_protocols() -> None:
    assert isinstance(registry.person_detector(), PersonDetector)
    only, everybody = registry.segmenter("selfie"), registry.segmenter("selfie", include_bystanders=True)
    assert isinstance(only, Segmenter)
    assert only.fingerprint != everybody.fingerprint
