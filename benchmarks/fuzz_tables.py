"""Workspaces, releases, tables and imports for `benchmarks.fuzz`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz_target import Target, digest_of, file_reader, json_or_bytes, sealed
from benchmarks.mutate import mutated


def tables(folder: Path) -> list[Target]:
    """Parts of workspaces, files of releases, decisions, lists, rigs; whole ones are made in `folder`."""
    import pyarrow as pa

    from benchmarks.release import make_workspace
    from phq_data import parquet as as_parquet
    from phq_data.pipeline import corrections as holding
    from phq_data.release import reader
    from phq_data.release.build import ReleaseOptions, build
    from phq_data.release.manifest import Manifest
    from phq_data.release.truth import read as read_truth
    from phq_data.review import exchange, exchange_corrections
    from phq_data.rig import PortraitRig
    from phq_data.sources.urls import UrlList
    from phq_data.workspace import Workspace

    workspace = folder / "workspace"
    make_workspace(workspace, 6, 16)
    build(Workspace.open(workspace), folder / "releases", "1.0.0", ReleaseOptions(unreviewed=True))
    release = folder / "releases" / "1.0.0"
    manifest, shard = release / "manifest.json", next((release / "data").iterdir())

    def part(table: str) -> Target:
        path = next((workspace / "tables" / table).iterdir())

        def read(changed: Path) -> object:
            opened = Workspace.open(changed.parents[2])
            return opened.part_info(f"tables/{table}", 0), opened.read_part(f"tables/{table}", 0).to_pylist()

        def from_bytes(data: bytes, place: Path) -> object:
            (place / "workspace.json").write_bytes((workspace / "workspace.json").read_bytes())
            (place / "tables" / table).mkdir(parents=True, exist_ok=True)
            return file_reader("part-00000.parquet", read)(data, place / "tables" / table)

        return Target(f"part of {table}", (path.read_bytes(),), from_bytes)

    def corrected(data: bytes, place: Path) -> object:
        (place / "workspace.json").write_bytes((workspace / "workspace.json").read_bytes())
        (place / holding.FILE).write_bytes(data)
        return holding.applied(Workspace.open(place)).ids()

    def opened(data: bytes, place: Path, path: Path) -> object:
        """The release with one file changed and a manifest that fits it, as somebody would who means harm."""
        target = place / "release"
        name = str(path.relative_to(release))
        if not target.exists():
            for source in release.rglob("*"):
                if source.is_file():
                    (target / source.relative_to(release)).parent.mkdir(parents=True, exist_ok=True)
                    os.link(source, target / source.relative_to(release))
        (target / name).unlink(missing_ok=True)
        (target / name).write_bytes(data)
        document = json.loads(manifest.read_bytes())
        for entry in [*document["shards"], *document["files"]]:
            if entry["path"] == name:
                entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        document.pop("digest")
        document["digest"] = digest_of(document)
        (target / "manifest.json").unlink(missing_ok=True)
        (target / "manifest.json").write_text(json.dumps(document))
        found = reader.open(target)
        return list(found.all().stream()), found.all().metadata(), found.rig() if found.has_rig else None

    class Taken:
        def merge(self, entries: list[Any]) -> int:
            return len(entries)

    log = {
        "decision_id": "a1", "portrait_id": "p", "verdict": "accept", "reason": "", "note": None,
        "reviewer": "rosa",
        "time": "2026-01-01T00:00:00+00:00", "client_time": "2026-01-01T00:00:00+00:00",
        "server_time": "2026-01-01T00:00:00+00:00", "seconds": "1.5", "rules": "", "client": "", "queue": "",
    }  # fmt: skip

    def parquet(rows: list[dict[str, Any]]) -> bytes:
        sink = io.BytesIO()
        as_parquet.write(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()

    def decisions(path: Path) -> object:
        return exchange.load(Taken(), path)  # type: ignore[arg-type]

    def corrections(path: Path) -> object:
        return exchange_corrections.are_corrections(path), exchange_corrections.read(path)

    label = ["portrait_id", "person_id", "photo_id", "camera", "pose", "window"]
    portrait = Workspace.open(workspace).table("portraits", label).to_pylist()[0]
    correction = {
        "correction_id": "c1", "kind": "correct", "time": "2026-01-01T00:00:00+00:00", "seconds": 1.5,
        "reviewer": "rosa", "client": "", "note": None, "undoes": None,
        **{name: portrait[name] for name in label[:3]},
        **{f"{side}_{name}": portrait[name] for side in ("from", "to") for name in label[3:]},
    }  # fmt: skip
    held = {"correction_id": "c1", "reviewer": "rosa", **portrait}
    known = [{
        "portrait_id": portrait["portrait_id"],
        "truth_camera": portrait["camera"], "truth_pose": portrait["pose"],
    }]  # fmt: skip

    def truth(path: Path) -> object:
        return read_truth(path, Workspace.open(workspace))

    def addresses(path: Path) -> object:
        return UrlList(path).search("", "")

    def rigs(path: Path) -> object:
        return PortraitRig.load(path).posed(np.zeros(6)), PortraitRig.load(path).posed_landmarks(np.zeros(6))

    return [
        Target(
            "manifest",
            (manifest.read_bytes(),),
            lambda data, _: Manifest.from_bytes(data, "m").counts(),
            sealed(digest_of),
        ),
        Target(
            "workspace.json",
            ((workspace / "workspace.json").read_bytes(),),
            file_reader("workspace.json", lambda p: Workspace.open(p.parent)),
            json_or_bytes,
        ),
        Target("shard", (shard.read_bytes(),), lambda data, place: opened(data, place, shard)),
        Target(
            "index",
            ((release / "index.parquet").read_bytes(),),
            lambda data, place: opened(data, place, release / "index.parquet"),
        ),
        Target("truth.parquet", (parquet(known),), file_reader("t.parquet", truth)),
        Target("rig", ((workspace / "rig.safetensors").read_bytes(),), file_reader("rig.safetensors", rigs)),
        *(part(table) for table in ("photos", "portraits", "screened")),
        Target("decisions.csv", (_csv(log),), file_reader("d.csv", decisions)),
        Target("decisions.parquet", (parquet([log]),), file_reader("d.parquet", decisions)),
        Target("corrections.csv", (_csv(correction),), file_reader("c.csv", corrections)),
        Target("corrections.parquet", (parquet([correction]),), file_reader("c.parquet", corrections)),
        Target("corrections.json", (json.dumps([held]).encode(),), corrected, json_or_bytes),
        Target(
            "list.parquet",
            (parquet([{"url": "https://a.example/1.jpg", "license": "CC0"}] * 3),),
            file_reader("l.parquet", addresses),
        ),
    ]


def _csv(row: dict[str, Any]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row))
    writer.writeheader()
    writer.writerow({name: json.dumps(it) if isinstance(it, list) else it for name, it in row.items()})
    return text.getvalue().encode()


def imports() -> list[Target]:
    """Data sets in the forms of other projects."""
    from phq_data import camera
    from phq_data.interchange import eg3d, reference

    label = [*camera.to_label(camera.from_angles(0.3, 0.1, 0.0)).tolist(), *[0.0] * 6]
    sink = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(sink, "PNG")
    names = [f"0/{number}.png" for number in range(2)]

    def archive(method: int) -> bytes:
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", method) as made:
            made.writestr("dataset.json", json.dumps({"labels": [[name, label] for name in names]}))
            for name in names:
                made.writestr(name, sink.getvalue())
        return held.getvalue()

    seeds = tuple(
        archive(m) for m in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    )

    def pair(data: bytes, folder: Path) -> object:
        (folder / "masks.zip").write_bytes(seeds[0])
        return file_reader("images.zip", lambda path: list(eg3d.read_pair(path, folder / "masks.zip")))(
            data, folder
        )

    entry = {
        "smpl_pose": [0.0] * 72, "camera_pose": camera.from_angles(0.3, 0.1, 0.0).tolist(),
        "bbox": [0, 0, 10, 10], "raw_image_name": "a.jpg",
    }  # fmt: skip

    def results(path: Path) -> object:
        for kind in ("aligned_images", "mask"):
            (path.parent / kind).mkdir(exist_ok=True)
            (path.parent / kind / "a.png").write_bytes(sink.getvalue())
        return list(reference.read_folder(path.parent))

    def labels(data: bytes, rng: random.Random) -> bytes:
        """Half of the time the labels inside of the first zip."""
        if rng.random() < 0.5:
            return mutated(data, rng)
        held = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(seeds[0])) as old, zipfile.ZipFile(held, "w") as made:
            for name in old.namelist():
                content = old.read(name)
                made.writestr(name, json_or_bytes(content, rng) if name == "dataset.json" else content)
        return held.getvalue()

    return [
        Target("zip pair", seeds, pair, labels),
        Target(
            "result.json",
            (json.dumps({"a.png": entry}).encode(),),
            file_reader("result.json", results),
            json_or_bytes,
        ),
    ]
