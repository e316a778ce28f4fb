"""The models a config names, loaded once a process and shared by all the parts it runs."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phq_data.config import PipelineConfig
from phq_data.foreign import parse_json
from phq_data.models.protocols import (
    AgeEstimator,
    BodyFitter,
    LicensedModel,
    ModelTerms,
    PersonDetector,
    Segmenter,
)
from phq_data.rig import PortraitRig
from phq_data.stages.base import Labeller
from phq_data.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from phq_data.models.reference_inputs import ReferenceInputs

T = TypeVar("T")
TERMS = "models.json"
"""Where a workspace has the terms of the models that its portraits were made with."""


class Models:
    """The networks and bodies that a config names, each loaded once a process, when first needed."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    @property
    def detector(self) -> PersonDetector:
        """The `PersonDetector`."""

        return self._once("detector", self._make_detector)

    @property
    def fitter(self) -> BodyFitter:
        """The `BodyFitter`."""

        return self._once("fitter", self._make_fitter)

    @property
    def segmenter(self) -> Segmenter:
        """The `Segmenter`."""
        from phq_data.models import registry

        mask = self._config.mask
        return self._once(
            "segmenter",
            lambda: registry.segmenter(
                mask.model, include_bystanders=mask.include_bystanders, device=self._config.device
            ),
        )

    @property
    def age(self) -> AgeEstimator | None:
        """The `AgeEstimator` of the screen for minors, if there is one."""
        from phq_data.models import registry

        wanted = self._config.screen.age_model
        if not wanted:
            return None
        return self._once("age", lambda: registry.age_estimator(wanted, device=self._config.device))

    @property
    def rig(self) -> PortraitRig:
        """The `PortraitRig` of the fitter's body."""
        from phq_data.bodies import anny, smpl

        makers = {"anny": anny.default_rig, "smpl": smpl.default_rig}
        if self.fitter.body not in makers:
            raise anny.BodyError(f"the body '{self.fitter.body}' has no rig; there are 'anny' and 'smpl'")
        return self._once("rig", makers[self.fitter.body])

    @property
    def template(self) -> NDArray[np.float64]:
        """Neutral joints [13, 3] of the fitter's body around the neck, metres."""
        from phq_data.bodies.template import template_joints

        return self._once("template", lambda: template_joints(self.fitter.body))

    @property
    def reference_inputs(self) -> ReferenceInputs:
        """Head boxes and vertex maps that the user brought for the reference's crop."""
        from phq_data.models import reference_inputs

        return self._once("reference_inputs", lambda: reference_inputs.load(self._config))

    def _make_detector(self) -> PersonDetector:
        from phq_data.models import registry

        wanted, device = self._config.detect, self._config.device
        parts = registry.pose_parts(wanted.model)
        people = None
        if (parts[0] if parts else wanted.model) == "movenet":
            from phq_data.models.movenet.detector import MoveNetConfig

            # Where another network finds the keypoints, MoveNet only says who is there: that needs no mean.
            people = MoveNetConfig(flip_tta=wanted.flip_tta if parts is None else False)
            if not wanted.second_pass:
                people = replace(people, second_pass_proposals=0)
        if parts is None:
            return registry.person_detector(wanted.model, device=device, config=people)
        from phq_data.models.pose.detector import PoseConfig

        pose = PoseConfig(flip_tta=bool(wanted.flip_tta))
        return registry.person_detector(wanted.model, device=device, config=pose, people_config=people)

    def _make_fitter(self) -> BodyFitter:
        from phq_data.models import registry

        wanted, device = self._config.fit, self._config.device
        if wanted.model not in ("smplify", "smplify2"):
            return registry.body_fitter(wanted.model, calibration=wanted.calibration, device=device)
        from phq_data.models.smplify import Smplify2Config, SmplifyConfig

        settings = SmplifyConfig if wanted.model == "smplify" else Smplify2Config
        chosen = settings(
            initializations=max(1, wanted.initializations),
            shape_directions=wanted.shape_directions,
            orientation_prior_image=wanted.orientation_prior == "image",
        )
        if wanted.orientation_prior == "none":
            chosen = replace(chosen, orientation_prior_weight=0.0)
        return registry.body_fitter(
            wanted.model, config=chosen, calibration=wanted.calibration, device=device
        )

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made


@lru_cache(maxsize=4)
def models_for(config: PipelineConfig) -> Models:
    """The `Models` of a config, shared by all parts that this process runs."""
    return Models(config)


def model_terms(models: Labeller) -> dict[str, ModelTerms]:
    """The terms of those models that are not shipped with PHQ and have their own, by fingerprint."""
    terms = {one.fingerprint: one.terms for one in (models.detector,) if isinstance(one, LicensedModel)}
    return terms if models.age is None else {**terms, models.age.fingerprint: models.age.terms}


def load_terms(workspace: Workspace) -> dict[str, ModelTerms]:
    """`model_terms` of the last build. Raises `WorkspaceError` when they cannot be read."""
    if not workspace.exists(TERMS):
        return {}
    try:
        written = parse_json(workspace.read_bytes(TERMS))
        return {str(name): ModelTerms(**terms) for name, terms in written.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise WorkspaceError(
            f"{workspace.path(TERMS)} is damaged ({error}): build again, which writes it anew"
        ) from error


def load_rig(workspace: Workspace) -> PortraitRig | None:
    """The rig of the last build; None before any."""
    if not workspace.exists("rig.safetensors"):
        return None
    with tempfile.TemporaryDirectory(prefix="phq-rig-") as folder:
        path = Path(folder) / "rig.safetensors"
        path.write_bytes(workspace.read_bytes("rig.safetensors"))
        return PortraitRig.load(path)


def rig_of(workspace: Workspace) -> PortraitRig:
    """The rig of the last build. Raises `WorkspaceError` before any."""
    rig = load_rig(workspace)
    if rig is None:
        raise WorkspaceError(
            f"the workspace {workspace.url} has no rig.safetensors yet: run `phq build` first"
        )
    return rig
