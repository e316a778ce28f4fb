"""The screen for minors: who is asked for an age, what follows from it, and that it is off."""

from __future__ import annotations

import dataclasses

import align_crop_bench
import bodyworks as works
import numpy as np
import pytest

from phq_data import camera, records
from phq_data.config import PipelineConfig, ScreenConfig, default
from phq_data.images.codecs import decode_struct, encode_image
from phq_data.models.protocols import AgeEstimate, ModelTerms
from phq_data.records import EncodedImage, Portrait, Screened
from phq_data.stages import age as stage
from phq_data.stages.crop import LabelledCrop, Window
from phq_data.stages.screen import screen

RIG = works.make_rig()
LENIENT = ScreenConfig(
    min_effective_resolution=0, min_blur=0, max_padding=1, max_exposure=1, min_contrast=0, min_mask_share=0,
    max_overlap=1, max_error_probability=1, max_head_outside=1, max_landmark_error=1, max_shoulder_error=1,
    age_model="age",
)  # fmt: skip
SEEN = np.column_stack([np.zeros((17, 2)), np.full(17, 0.9)])


class Red:
    """An age estimator that takes the mean red of a head for its years."""

    fingerprint, terms, side, padding = "age-red", ModelTerms("Red", "CC0-1.0", ""), 16, 1.0

    def __init__(self, spread: float | None = None) -> None:
        self.spread, self.seen = spread, 0

    def estimate(self, heads: np.ndarray) -> list[AgeEstimate]:
        self.seen += len(heads)
        return [AgeEstimate(float(head[..., 0].mean()), self.spread) for head in heads]


def crop_at(yaw: float, pose: np.ndarray | None = None) -> LabelledCrop:
    turned = np.zeros(6) if pose is None else pose
    return LabelledCrop(camera.from_angles(np.radians(yaw), 0.0), turned, Window(0.0, 0.0, 128.0), 128)


@pytest.mark.parametrize(
    ("years", "spread", "outcome", "reason"),
    [
        (15.9, None, "minor", "minor"), (16.1, None, "unsure", "maybe_minor"),
        (24.9, 1.0, "unsure", "maybe_minor"), (25.1, None, "adult", ""), (25.1, 3.0, "adult", ""),
        (25.1, 4.0, "unsure", "maybe_minor"), (40.0, 12.0, "unsure", "maybe_minor"),
        (60.0, 12.0, "adult", ""),
    ],
)  # fmt: skip
def test_outcomes_by_years_and_spread(years, spread, outcome, reason) -> None:
    found = stage.age_verdict(AgeEstimate(years, spread), ScreenConfig())
    assert (found.outcome, found.reason) == (outcome, reason)


def test_thresholds_are_settings() -> None:
    config = ScreenConfig(minor_below=10.0, adult_from=30.0)
    found = [stage.age_verdict(AgeEstimate(years), config).outcome for years in (9, 12, 28, 31)]
    assert found == ["minor", "unsure", "unsure", "adult"]


def test_a_face_counts_as_seen_by_the_label_and_by_the_detector() -> None:
    assert [stage.face_seen(crop_at(yaw), SEEN) for yaw in (0, 50, -50, 70, 180)] == [True] * 3 + [False] * 2
    left = np.array([0, 0, 0, 0, np.radians(60), 0])  # the head turned to the person's left
    assert stage.face_seen(crop_at(70, left), SEEN) and not stage.face_seen(crop_at(-30, left), SEEN)
    for names in ([0], [1, 2]):  # no nose; no eye
        hidden = SEEN.copy()
        hidden[names, 2] = 0.1
        assert not stage.face_seen(crop_at(0), hidden)


def test_the_network_sees_the_head_and_nothing_else() -> None:
    crop = crop_at(20)
    window = stage.head_window(crop, RIG)
    head = RIG.posed(crop.pose)[RIG.weights[:, 1] > 0.5]
    places = camera.project(head, crop.camera, crop.intrinsics)[0] * crop.size
    inside = (places >= [window.x, window.y]) & (places <= [window.x + window.side, window.y + window.side])
    assert inside.all() and window.side == pytest.approx(np.ptp(places, axis=0).max())
    image = np.full((128, 128, 3), 250, np.uint8)
    rows, columns = (slice(max(0, round(at)), round(at + window.side)) for at in (window.y, window.x))
    image[rows, columns] = 33
    age = stage.estimate_age(image, crop, SEEN, RIG, Red())
    assert age is not None and age.years == pytest.approx(33, abs=12)  # but for half pixels of its border


def portraits(*levels: int) -> list[Portrait]:
    """Three portraits, two of one photo, seen from the front, in these levels of red; 0: from behind."""
    found = []
    for portrait, level in zip(align_crop_bench.Bench().run().records, levels, strict=True):
        painted = decode_struct(dataclasses.asdict(portrait.image)).copy()
        painted[..., 0] = level
        label = camera.to_label(camera.from_angles(0.0 if level else np.pi, 0.0))
        found.append(
            dataclasses.replace(
                portrait, camera=label.astype(np.float64), pose=np.zeros(6), keypoints=SEEN,
                image=EncodedImage(encode_image(painted, "png")[0], "a.png"),
            )
        )  # fmt: skip
    return found


def screened(rows: list[Portrait], config: ScreenConfig = LENIENT, age: Red | None = None):
    people = align_crop_bench.Bench().people
    return screen(rows, people, config, RIG, age=Red() if age is None else age)


def test_minors_and_unsure_ones_are_rejected_with_reasons_of_their_own() -> None:
    found = screened(portraits(12, 20, 40))
    told = [(row.age_screen, row.kept, row.reasons) for row in found.records]
    assert told == [
        ("minor", False, ("minor",)), ("unsure", False, ("maybe_minor",)), ("adult", True, ()),
    ]  # fmt: skip
    table = records.to_table(Screened, found.records)
    assert table["age_years"].to_pylist() == pytest.approx([12, 20, 40])
    assert table["age_spread"].null_count == 3
    first, second, third = found.outcomes
    assert first.message == "the screen for minors estimates 12 years"
    assert second.message == "the screen for minors is not sure: it estimates 20 years"
    assert third.evidence["age_years"] == 40.0
    again = screened(portraits(12, 20, 40), age=Red(spread=15.0)).records[2]
    assert (again.age_screen, again.age_spread) == ("unsure", 15.0)


def test_a_corrected_label_takes_no_reason_of_age_away() -> None:
    rows = [dataclasses.replace(row, corrected_from="x") for row in portraits(12, 20, 40)]
    assert [row.reasons for row in screened(rows).records] == [("minor",), ("maybe_minor",), ()]


def test_who_shows_no_face_is_for_a_person_to_decide() -> None:
    estimator = Red()
    found = screened(portraits(40, 0, 0), age=estimator)
    assert [row.age_screen for row in found.records] == ["adult", "unsure", "unsure"]
    assert [row.reasons for row in found.records] == [(), ("age_unseen",), ("age_unseen",)]
    assert "no face is seen" in found.outcomes[1].message and found.records[1].age_years is None
    assert estimator.seen == 1


@pytest.mark.parametrize(("beside", "kept"), [(40, [True, True, True]), (12, [False, False, True]),
                                              (20, [False, False, True])])  # fmt: skip
def test_rear_views_may_be_kept_but_not_beside_somebody_who_may_be_a_minor(beside, kept) -> None:
    config = dataclasses.replace(LENIENT, age_unseen="keep")
    rows = portraits(beside, 0, 0)
    assert rows[0].photo_id == rows[1].photo_id != rows[2].photo_id
    found = screened(rows, config)
    assert [row.kept for row in found.records] == kept
    assert [row.age_screen for row in found.records][1:] == ["unsure", "unsure"]


def test_it_is_off_and_then_says_nothing() -> None:
    assert default().screen.age_model == ""
    people = align_crop_bench.Bench().people
    found = screen(portraits(12, 20, 40), people, dataclasses.replace(LENIENT, age_model=""), RIG)
    assert all(row.kept and row.age_screen is None and row.age_years is None for row in found.records)


def test_parts_depend_on_thresholds_and_on_the_networks_content(tmp_path, monkeypatch) -> None:
    import age_networks as made

    from phq_data.pipeline.engine import recipe
    from phq_data.pipeline.model_set import models_for
    from phq_data.stages.screen import STAGE

    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    models_for.cache_clear()

    def made_with(*settings: str) -> list[object]:
        config = PipelineConfig()
        for setting in settings:
            config = config.replace_setting(setting)
        return recipe(STAGE, config)

    one, copy = made.write(tmp_path / "one.onnx"), made.write(tmp_path / "copy.onnx")
    other = made.write(tmp_path / "other.onnx", factor=2.0)
    off, on = made_with(), made_with(f"screen.age_model=age:{one}")
    assert "age" not in str(off) and off != on
    assert made_with(f"screen.age_model=age:{copy}") == on
    assert made_with(f"screen.age_model=age:{other}") != on
    assert made_with(f"screen.age_model=age:{one}", "screen.adult_from=30") != on
