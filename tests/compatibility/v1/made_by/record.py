"""expected.json: what version 0.1.0 reads from the files, for the tests to compare with.

`record.py WORK V1`: WORK is the folder of make.sh, V1 the one beside which expected.json is written.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from phq_data import accuracy, schema
from phq_data.images import decode_struct
from phq_data.release import reader
from phq_data.review.decisions import current
from phq_data.review.store import Store
from phq_data.review.tables import ITEMS
from phq_data.rig import PortraitRig
from phq_data.sources.urls import UrlList
from phq_data.synthesis.truth import read_truth
from phq_data.workspace import Workspace
from portraitgan.inference.latents import from_latent_file
from portraitgan.inference.model import open_model

TABLES = tuple(name for name in schema.SCHEMAS if name != "release")


def sha256(array: np.ndarray) -> str:
    """Digest of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def rows_of(workspace: Workspace) -> dict[str, int]:
    """Table -> number of rows."""
    return {name: workspace.table(name).num_rows for name in TABLES}


def of_workspace(workspace: Workspace) -> dict:
    """Numbers of a portrait, a fit, the screening and the ledger."""
    kept = sorted(workspace.kept(["portrait_id"])["portrait_id"].to_pylist())
    portrait = workspace.row("portraits", kept[0])
    assert portrait is not None
    fit = workspace.row("fits", portrait["fit_id"])
    assert fit is not None
    names = ("portrait_id", "camera", "pose", "window", "residual", "shoulder_residual", "source_pixels")
    counts: dict[str, int] = {}
    for row in workspace.table("ledger").to_pylist():
        name = " ".join(filter(None, (row["stage"], row["outcome"], row["reason"])))
        counts[name] = counts.get(name, 0) + 1
    return {
        "rows": rows_of(workspace),
        "kept": kept,
        "twins": [
            row["portrait_id"]
            for row in workspace.table("duplicates").to_pylist()
            if not row["representative"]
        ],
        "portrait": {
            **{name: portrait[name] for name in names},
            "pixels": sha256(decode_struct(portrait["image"])),
            "mask": sha256(decode_struct(portrait["mask"])),
        },
        "fit": {
            name: fit[name] for name in ("fit_id", "residual", "yaw_deviation", "alternatives", "view_guess")
        },
        "screened": {
            row["portrait_id"]: {
                "kept": row["kept"],
                "reasons": row["reasons"],
                "doubt": row["doubt"],
                "yaw_error_degrees": row["yaw_error"],
            }
            for row in workspace.table("screened").to_pylist()
        },
        "ledger": counts,
    }


def of_review(workspace: Workspace) -> dict:
    """The log, the consensus and the known answer."""
    store = Store.open(workspace)
    rows = list(store.rows())
    with store.database.read() as connection:
        chosen = sa.select(ITEMS.c.portrait_id).where(ITEMS.c.known == "accept")
        known = list(connection.execute(chosen).scalars())
    store.close()
    return {
        "log": [[row["reviewer"], row["portrait_id"], row["verdict"]] for row in rows],
        "notes": [row["note"] for row in rows if row["note"]],
        "states": {one: found.state for one, found in current(workspace).items()},
        "known": known,
    }


def of_release(folder: Path) -> dict:
    """Its rows, and one of them."""
    release = reader.open(folder)
    ids = release.index["portrait_id"].to_pylist()
    readable = [row["portrait_id"] for row in release.all().stream()]
    rows = {one: release.find(one) for one in readable}
    portrait = next(row for row in rows.values() if row is not None and row["truth_pose"] is not None)
    names = (
        "portrait_id", "camera", "pose", "truth_camera", "truth_pose", "residual", "shoulder_residual",
        "source_pixels", "doubt", "licence", "split",
    )  # fmt: skip
    return {
        "digest": release.manifest.digest,
        "rows": len(ids),
        "readable": readable,
        "taken_down": next(one for one in ids if one not in readable),
        "portrait": {
            **{name: portrait[name] for name in names},
            "image_pixels": sha256(decode_struct(portrait["image"])),
        },
    }


def of_run(work: Path) -> dict:
    """A picture's colours and an inversion."""
    model = open_model(work / "run", device="cpu")
    made = model.render(model.styles(model.latents([0]), 0.7), model.neutral_camera)
    ws = from_latent_file(model, work / "latent" / "latent.safetensors").ws
    return {
        "shape": list(made.image.shape),
        "mean_colour": made.image.mean(dim=(0, 2, 3)).tolist(),
        "deviation": made.image.std().item(),
        "latent": {"shape": list(ws.shape), "mean": ws.mean().item()},
    }


def main(work: Path, out: Path) -> None:
    """Write expected.json."""
    workspace = Workspace.open(work / "workspace")
    truth = read_truth(work / "accuracy" / "truth.parquet")
    errors = accuracy.measure(workspace, truth, PortraitRig.load(workspace.path("rig.safetensors")))
    scraped = Workspace.open(work / "scraped")
    found = {
        "workspace": of_workspace(workspace),
        "scraped": {"rows": rows_of(scraped), "query": UrlList(work / "urls.csv").query},
        "review": of_review(workspace),
        "release": of_release(work / "releases" / "1.0.0"),
        "run": of_run(work),
        "truth": {
            "people": truth.num_rows,
            "camera": truth["camera"][0].as_py(),
            "accuracy": accuracy.summary(errors),
        },
    }
    (out / "expected.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
