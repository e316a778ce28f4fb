"""Every reader of foreign files for `benchmarks.fuzz`: small whole files, and what reads a changed one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.mutate import mutated, mutated_json, png_with_sums

Read = Callable[[bytes, Path], object]
"""Reads the bytes of a changed file, in a folder of its own; raises `PhqError` for what is wrong with it."""
Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    name: str
    seeds: tuple[bytes, ...]
    read: Read
    change: Change = mutated


def targets(folder: Path) -> list[Target]:
    """All kinds, with whole files of each that are made in `folder`."""
    return [*_photos(), *_texts(), *_tables(folder), *_imports(), *_networks(folder)]


def _json_or_bytes(data: bytes, rng: random.Random) -> bytes:
    return mutated_json(data, rng) if rng.random() < 0.7 else mutated(data, rng)


def _sealed(seal: Callable[[dict[str, Any]], str]) -> Change:
    """Changes of a document that carries its own digest, half of them with the digest that fits."""

    def change(data: bytes, rng: random.Random) -> bytes:
        changed = _json_or_bytes(data, rng)
        try:
            document = json.loads(changed)
            document.pop("digest", None)
            document["digest"] = seal(document)
            return json.dumps(document).encode() if rng.random() < 0.5 else changed
        except (ValueError, AttributeError, TypeError, RecursionError):
            return changed

    return change


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _file(name: str, read: Callable[[Path], object]) -> Read:
    """A reader of a path, as a reader of bytes."""

    def from_bytes(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return from_bytes


# ---- photos ----------------------------------------------------------------------------------------------


def _photos() -> list[Target]:
    from phq_data.images.codecs import decode, perceptual_hash

    rows, columns = np.mgrid[0:24, 0:32]
    pixels = np.stack([rows * 10, columns * 8, rows * columns], -1).astype(np.uint8)
    picture = Image.fromarray(pixels)

    def encoded(kind: str, image: Image.Image = picture, **options: Any) -> bytes:
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        return sink.getvalue()

    def read(data: bytes, folder: Path) -> object:
        return perceptual_hash(decode(data, max_pixels=150_000_000).pixels)

    exif = Image.Exif()
    exif[274], exif[306] = 6, "2024:05:06 07:08:09"
    exif.get_ifd(0x8769)[36867] = "2024:05:06 07:08:09"
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds: dict[str, tuple[bytes, ...]] = {
        "jpeg": (encoded("JPEG", exif=exif, icc_profile=profile), encoded("JPEG", picture.convert("CMYK"))),
        "exif": (encoded("JPEG", picture.resize((8, 8)), exif=exif),),
        "png": (
            encoded("PNG", icc_profile=profile), encoded("PNG", picture.convert("P")),
            encoded("PNG", picture.convert("RGBA"), exif=exif),
        ),
        "webp": (encoded("WEBP"), encoded("WEBP", lossless=True, exif=exif)),
        "tiff": tuple(encoded("TIFF", compression=name) for name in ("raw", "tiff_lzw", "jpeg")),
        "gif": (encoded("GIF"),),
        "bmp": (encoded("BMP"),),
    }  # fmt: skip
    from PIL import features

    if features.check("avif"):
        kinds["avif"] = (encoded("AVIF", exif=exif),)
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        sink = io.BytesIO()
        pillow_heif.from_pillow(picture).save(sink, quality=80)
        kinds["heic"] = (sink.getvalue(),)

    def png(data: bytes, rng: random.Random) -> bytes:
        changed = mutated(data, rng)
        return png_with_sums(changed) if rng.random() < 0.7 else changed

    return [Target(name, seeds, read, png if name == "png" else mutated) for name, seeds in kinds.items()]


# ---- texts that people and programs write ----------------------------------------------------------------


def _texts() -> list[Target]:
    from phq_data.config import PipelineConfig, paper
    from phq_data.foreign import parse_json
    from phq_data.models.keypoint_file import KeypointFileDetector
    from phq_data.models.reference_inputs import HeadBoxFile
    from phq_data.release.tombstones import Tombstone, Tombstones
    from phq_data.release.tombstones import _sealed as seal_of_list
    from phq_data.sources.rights import read_rights
    from phq_data.sources.terms import Permission
    from phq_data.sources.urls import UrlList
    from phq_data.sources.web import settings as web_settings
    from phq_data.sources.web.robots import parse_tdmrep
    from portraitgan import config as model_config
    from portraitgan.inference.views import camera_from_text
    from portraitgan.training.config import PRESETS as TRAINING
    from portraitgan.training.config import TrainConfig

    def people(path: Path) -> object:
        detector = KeypointFileDetector(path)
        return [detector.detect_named(name, (640, 480), 6) for name in ("a.jpg", "b.jpg")]

    def web(path: Path) -> object:
        path.chmod(0o600)
        return web_settings.load({"PHQ_SETTINGS": str(path)})

    def addresses(path: Path) -> object:
        return UrlList(path).search("", "")

    rights = {
        "license": "CC BY 4.0", "author": "Ada", "permission": {"who": "Ada"},
        "rights_checked_at": "2026-03-01",
        "files": {"studio/*.jpg": {"author": "Bo"}, "p.png": {"license": "CC0-1.0", "title": "A"}},
    }  # fmt: skip
    toml = b'license = "CC0-1.0"\nrights_checked_at = 2026-03-01\n[files."a/*.jpg"]\nauthor = "Bo"\n'
    points = {"a.jpg": [[[1.5, 2.0, 0.5]] * 17], "b.jpg": []}
    listed = io.StringIO()
    csv.writer(listed).writerows([["url", "license", "author"], ["https://a.example/1.jpg", "CC0", "Ö"]] * 3)
    stones = Tombstones((Tombstone("id", "ab", "2026-01-01", "asked", ("ab",), ("cd",)),)).to_bytes()
    permission = {
        "who": "Ada", "scope": ["collect"], "date": "2026-01-01", "reference": "x", "provider": "wikimedia",
    }  # fmt: skip
    tdm = [{"location": "/a/*", "tdm-reservation": 1}]

    def as_json(value: object) -> tuple[bytes]:
        return (json.dumps(value).encode(),)

    def settings(data: bytes, folder: Path) -> object:
        return PipelineConfig.from_dict(parse_json(data))

    def model(data: bytes, folder: Path) -> object:
        return model_config.ModelConfig.from_json(data.decode("utf-8", "replace"))

    def training(data: bytes, folder: Path) -> object:
        return TrainConfig.from_json(data.decode("utf-8", "replace"))

    run = next(iter(TRAINING.values()))()
    return [
        Target(
            "rights.json",
            as_json(rights),
            _file("rights.json", lambda p: read_rights(p.parent)),
            _json_or_bytes,
        ),
        Target("rights.toml", (toml,), _file("rights.toml", lambda p: read_rights(p.parent))),
        Target("settings", as_json(asdict(paper())), settings, _json_or_bytes),
        Target(
            "web settings",
            (b'contact = "a@b.example"\nrobots = true\nminimum_side = 300\n',),
            _file("s.toml", web),
        ),
        Target("model config", (model_config.tiny().to_json().encode(),), model, _json_or_bytes),
        Target("training config", (run.to_json().encode(),), training, _json_or_bytes),
        Target("keypoints", as_json(points), _file("k.json", people), _json_or_bytes),
        Target(
            "head boxes",
            as_json({"a.jpg": [{"bbox": [1, 2, 3, 4]}, {"bbox": []}]}),
            _file("h.json", HeadBoxFile),
            _json_or_bytes,
        ),
        Target("permission", as_json(permission), _file("p.json", Permission.load), _json_or_bytes),
        Target(
            "camera",
            as_json({"camera": list(np.eye(5).ravel())}),
            _file("c.json", lambda p: camera_from_text(str(p))),
            _json_or_bytes,
        ),
        Target("list.csv", (listed.getvalue().encode(),), _file("l.csv", addresses)),
        Target(
            "tombstones",
            (stones,),
            lambda data, _: Tombstones.from_bytes(data, "t").hides("a", "b"),
            _sealed(seal_of_list),
        ),
        Target("reservations", as_json(tdm), lambda data, _: parse_tdmrep(data), _json_or_bytes),
    ]


# ---- tables, manifests, rigs -----------------------------------------------------------------------------


def _tables(folder: Path) -> list[Target]:
    import pyarrow as pa

    from benchmarks.release import make_workspace
    from phq_data import parquet as as_parquet
    from phq_data.release import reader
    from phq_data.release.build import ReleaseOptions, build
    from phq_data.release.manifest import Manifest
    from phq_data.review import exchange
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
            return _file("part-00000.parquet", read)(data, place / "tables" / table)

        return Target(f"part of {table}", (path.read_bytes(),), from_bytes)

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
        document["digest"] = _digest(document)
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
    text = io.StringIO()
    writer = csv.DictWriter(text, list(log))
    writer.writeheader()
    writer.writerow(log)

    def parquet(rows: list[dict[str, Any]]) -> bytes:
        sink = io.BytesIO()
        as_parquet.write(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()

    def decisions(path: Path) -> object:
        return exchange.load(Taken(), path)  # type: ignore[arg-type]

    def addresses(path: Path) -> object:
        return UrlList(path).search("", "")

    def rigs(path: Path) -> object:
        return PortraitRig.load(path).posed(np.zeros(6)), PortraitRig.load(path).posed_landmarks(np.zeros(6))

    return [
        Target(
            "manifest",
            (manifest.read_bytes(),),
            lambda data, _: Manifest.from_bytes(data, "m").counts(),
            _sealed(_digest),
        ),
        Target(
            "workspace.json",
            ((workspace / "workspace.json").read_bytes(),),
            _file("workspace.json", lambda p: Workspace.open(p.parent)),
            _json_or_bytes,
        ),
        Target("shard", (shard.read_bytes(),), lambda data, place: opened(data, place, shard)),
        Target(
            "index",
            ((release / "index.parquet").read_bytes(),),
            lambda data, place: opened(data, place, release / "index.parquet"),
        ),
        Target("rig", ((workspace / "rig.safetensors").read_bytes(),), _file("rig.safetensors", rigs)),
        *(part(table) for table in ("photos", "portraits", "screened")),
        Target("decisions.csv", (text.getvalue().encode(),), _file("d.csv", decisions)),
        Target("decisions.parquet", (parquet([log]),), _file("d.parquet", decisions)),
        Target(
            "list.parquet",
            (parquet([{"url": "https://a.example/1.jpg", "license": "CC0"}] * 3),),
            _file("l.parquet", addresses),
        ),
    ]


# ---- imports of other projects ---------------------------------------------------------------------------


def _imports() -> list[Target]:
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
        return _file("images.zip", lambda path: list(eg3d.read_pair(path, folder / "masks.zip")))(
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
                made.writestr(name, _json_or_bytes(content, rng) if name == "dataset.json" else content)
        return held.getvalue()

    return [
        Target("zip pair", seeds, pair, labels),
        Target(
            "result.json",
            (json.dumps({"a.png": entry}).encode(),),
            _file("result.json", results),
            _json_or_bytes,
        ),
    ]


# ---- networks --------------------------------------------------------------------------------------------


def _networks(folder: Path) -> list[Target]:
    import torch

    from phq_data.bodies.smpl_pickle import read_smpl_pickle, read_values
    from phq_data.weights import tensor_file
    from portraitgan.checkpoints import checkpoint
    from portraitgan.checkpoints.convert import convert
    from portraitgan.checkpoints.weights import make_discriminator, make_generator, read_tensors
    from portraitgan.config import tiny
    from portraitgan.inference.latents import Latent, load_latent, save_latent

    networks = {}
    for name, make in (("generator", make_generator), ("discriminator", make_discriminator)):
        networks[name] = networks[f"{name}_ema"] = make(tiny()).state_dict()
    state = checkpoint.State(1000, 125, "1", "abc", {"position": 1000})
    whole = checkpoint.save(
        folder / "run", checkpoint.Checkpoint(tiny(), state, networks, {"x": torch.ones(2)})
    )

    def of_checkpoint(data: bytes, place: Path) -> object:
        for source in whole.iterdir():
            if source.name != "state.json" and not (place / source.name).exists():
                os.link(source, place / source.name)
        return _file("state.json", lambda path: checkpoint.read_state(path.parent))(data, place)

    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    sink, old = io.BytesIO(), io.BytesIO()
    torch.save(tensors, sink)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    module = {"_parameters": {"w": torch.ones(3, 4)}, "_buffers": {"b": torch.zeros(2)}, "_modules": {}}
    official = pickle.dumps({"G_ema": {**module, "_modules": {"a": module}}, "D": module})
    arrays = {
        "v_template": np.zeros((4, 3)),
        "f": np.zeros((2, 3), np.uint32),
        "x": {"y": [1, 2.5, "z", None]},
    }
    save_latent(
        folder / "latent.safetensors", Latent(torch.ones(1, 4, 8), torch.ones(1, 25), None, {}, {}, {"a": 1})
    )
    from safetensors.torch import save

    def tensor_entries(path: Path) -> object:
        found = tensor_file.tensors_of(tensor_file.read(path)) or {}
        return [
            tensor_file.fitting(found.get(key), value, key, "x")
            for key, value in tensors.items()
            if key in found
        ]

    def smpl(path: Path) -> object:
        values = read_values(path)
        return values, read_smpl_pickle(path)

    return [
        Target("state.json", ((whole / "state.json").read_bytes(),), of_checkpoint, _sealed(_digest)),
        Target(
            "official pickle",
            (official, pickle.dumps({"G_ema": module}, 2)),
            _file("o.pkl", lambda path: convert(path, path.with_name("out"))),
        ),
        Target("body pickle", (pickle.dumps(arrays), pickle.dumps(arrays, 2)), _file("s.pkl", smpl)),
        Target("torch file", (sink.getvalue(), old.getvalue()), _file("t.pth", tensor_entries)),
        Target("safetensors", (save(tensors),), _file("t.safetensors", read_tensors)),
        Target(
            "latent", ((folder / "latent.safetensors").read_bytes(),), _file("l.safetensors", load_latent)
        ),
    ]
