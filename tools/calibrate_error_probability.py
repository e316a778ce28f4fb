"""Calibrate the labels' error probability (`phq_data.stages.uncertainty`) on rendered people.

    phq synthesize rendered --count 800 --seed 71
    phq build --workspace workspace --runner inline rendered/photos
    python tools/calibrate_error_probability.py train workspace rendered/truth.parquet [WORKSPACE TRUTH ...]
    python tools/calibrate_error_probability.py test WORKSPACE TRUTH

Use seeds that no orientation prior was trained on (`data/ORIENTATION_PRIOR_NOTICE`), since its errors are
smaller there, and report accuracy on others again. Run it again when a model or a setting that changes labels
changes. Every labelled person counts, kept or not: screening settings do not matter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from phq_data import records
from phq_data.camera import from_label
from phq_data.evaluation import accuracy
from phq_data.records import Fit, Record
from phq_data.rig import PortraitRig
from phq_data.stages import uncertainty
from phq_data.stages.crop import LabelledCrop, Window
from phq_data.synthesis.truth import read_truth
from phq_data.workspace import Workspace

FloatArray = NDArray[np.float64]
NAMES = uncertainty.EVIDENCE + uncertainty.VIEW
RIDGE = 2.0
"""Added for every weight: with a thousand labels it matters to those that say little."""
SMALLEST = 0.3
"""Degrees; smaller errors are luck."""
FOLDS = 10
RENDERS_ALONE = frozenset({"prior_angle"})
"""The prior was trained on renders. Where it disagrees with keypoints there, it is mostly right; on photos
the keypoints are (AUC of this evidence 0.64 to 0.79 on renders, 0.51 on photos of calibrated cameras)."""
STEEPEST = 60.0
"""Degrees of pitch that the rendered people reach: steeper labels are as likely wrong as right."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled(Record):
    """What of a portrait tells how sure its label is."""

    table = "portraits"
    portrait_id: str
    fit_id: str
    keypoints: records.Keypoints
    landmark_error: float
    padding: float
    camera: records.Label
    pose: records.Pose
    window: records.Corner
    size: int


def labels(folder: Path, truth: Path) -> tuple[FloatArray, FloatArray]:
    """(evidence [N, D], yaw errors in degrees [N]) of every labelled person of a workspace."""
    workspace = Workspace.open(str(folder))
    rig = PortraitRig.load(workspace.path("rig.safetensors"))
    errors = accuracy.measure(workspace, read_truth(truth), rig)
    portraits = {one.portrait_id: one for one in workspace.records(Labelled)}
    fits = {one.fit_id: one for one in workspace.records(Fit)}
    numbers = {
        row["item"]: json.loads(row["evidence"])
        for part in workspace.parts("ledger/screen")
        for row in workspace.read_part("ledger/screen", part, ["item", "evidence"]).to_pylist()
    }
    found, off = [], []
    for error in errors:
        portrait = portraits.get(error.portrait_id)
        if portrait is None or error.portrait_id not in numbers:
            continue
        coverage = float(numbers[error.portrait_id]["coverage"])
        window = Window(*portrait.window.tolist())
        crop = LabelledCrop(from_label(portrait.camera)[0], portrait.pose, window, portrait.size)
        fit = fits[portrait.fit_id]
        seen = uncertainty.evidence(
            portrait.keypoints, portrait.landmark_error, coverage, crop, fit, portrait.padding
        )
        found.append(uncertainty.known(NAMES, seen))
        off.append(error.yaw_deg)
    return np.stack(found), np.array(off)


def unlikely(weights: FloatArray, values: FloatArray, wrong: FloatArray, ridge: float = RIDGE) -> float:
    """Minus the log of how likely the labels are, odds being values @ weights."""
    odds = values @ weights
    return float(np.sum(np.logaddexp(0, odds) - wrong * odds) + ridge * np.sum(weights[:-1] ** 2) / 2)


def away(weights: FloatArray, values: FloatArray, target: FloatArray) -> float:
    """The absolute error, rounded at the bottom: its least is at the median."""
    return float(
        np.sum(np.sqrt((values @ weights - target) ** 2 + 0.01)) + RIDGE * np.sum(weights[:-1] ** 2) / 2
    )


def fit(cost: Callable[..., float], values: FloatArray, target: FloatArray) -> FloatArray:
    """Weights of least cost; evidence may only raise the error probability."""
    bounds: list[tuple[float | None, float | None]] = [
        (0, 0 if name in RENDERS_ALONE else None) for name in uncertainty.EVIDENCE
    ]
    bounds += [(None, None)] * (len(uncertainty.VIEW) + 1)
    start = np.zeros(values.shape[1])
    found: FloatArray = minimize(cost, start, args=(values, target), method="L-BFGS-B", bounds=bounds).x
    return found


def train(workspaces: list[tuple[Path, Path]], output: Path) -> None:
    """Fit both models and write them."""
    parts = [labels(*pair) for pair in workspaces]
    raw, off = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    mean, deviation = np.nanmean(raw, axis=0), np.maximum(np.nanstd(raw, axis=0), 1e-3)
    values = np.clip(np.nan_to_num((raw - mean) / deviation), -4, 4)
    values = np.column_stack([values, np.ones(len(values))])
    wrong, target = (off > uncertainty.WRONG).astype(float), np.log(np.maximum(off, SMALLEST))

    fitted = [fit(cost, values, aim).round(4) for cost, aim in ((unlikely, wrong), (away, target))]
    # A model is overconfident on labels that it was not fitted to; cross-validation says by how much.
    fold = np.random.default_rng(0).permutation(len(off)) % FOLDS
    odds = np.empty(len(off))
    for k in range(FOLDS):
        odds[fold == k] = values[fold == k] @ fit(unlikely, values[fold != k], wrong[fold != k])
    pairs = np.column_stack([odds, np.ones(len(odds))])
    slope, offset = minimize(unlikely, [1.0, 0.0], args=(pairs, wrong, 0.0), method="L-BFGS-B").x
    fitted[0] = (fitted[0] * slope + np.r_[np.zeros(len(NAMES)), offset]).round(4)
    print(f"odds of held-out labels: times {slope:.2f} and {offset:+.2f}")
    rows: list[dict[str, Any]] = [
        {"name": name, "mean": round(float(mean[i]), 4), "deviation": round(float(deviation[i]), 4),
         "wrong": float(fitted[0][i]), "error": float(fitted[1][i])}
        for i, name in enumerate(NAMES)
    ]  # fmt: skip
    table = {
        "made_by": "tools/calibrate_error_probability.py",
        "labels": len(off),
        "wrong_share": round(float(wrong.mean()), 4),
        "steepest_deg": STEEPEST,
        "evidence": rows,
        "constant": {"wrong": float(fitted[0][-1]), "error": float(fitted[1][-1])},
    }
    output.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{output}: {len(off)} labels, {wrong.mean():.1%} wrong")
    for row in sorted(rows, key=lambda r: -abs(r["wrong"])):
        print(f"  {row['name']:<18} {row['wrong']:6.2f} {row['error']:6.2f}")


def test(pairs: list[tuple[Path, Path]], weights: Path) -> None:
    """Print how well calibrated the model is on labels that it was not fitted to."""
    model = uncertainty.UncertaintyModel.load(weights)
    parts = [labels(*pair) for pair in pairs]
    raw, off = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    said = [model.assess(dict(zip(NAMES, row, strict=True))) for row in raw]
    wrong = np.array([d.wrong for d in said])
    error = np.degrees([d.expected_yaw_error for d in said])
    order = np.argsort(wrong)
    for group in np.array_split(order, 8):
        print(
            f"  says {wrong[group].mean():.2f}, wrong {np.mean(off[group] > uncertainty.WRONG):.2f}; error "
            f"{np.median(error[group]):5.1f}, was {np.median(off[group]):5.1f} ({len(group)} labels)"
        )
    brier, base = np.mean((wrong - (off > uncertainty.WRONG)) ** 2), np.mean(off > uncertainty.WRONG)
    bad = wrong[off > uncertainty.WRONG]
    good = wrong[off <= uncertainty.WRONG]
    area = np.mean(bad[:, None] > good[None])
    print(
        f"  Brier score {brier:.3f} ({base * (1 - base):.3f} for the mean), area under the curve {area:.3f}"
    )
    print(f"  {np.mean(off < error):.0%} of the errors are below the stated median")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("verb", choices=("train", "test"))
    parser.add_argument("pairs", type=Path, nargs="+", metavar="WORKSPACE TRUTH")
    parser.add_argument("--weights", type=Path, default=uncertainty.DATA_FILE_2)
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("workspaces and truth files go in pairs")
    pairs = list(zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True))
    (train if arguments.verb == "train" else test)(pairs, arguments.weights)


if __name__ == "__main__":
    main()
