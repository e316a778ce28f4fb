"""A small workspace as a build leaves it, made without running any model: photos of a drawn figure whose
label is known, people, fits, portraits, verdicts, duplicates and ledgers with clocks.
"""

import hashlib
import io
import json
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from phq_data import camera, config, schema
from phq_data.rendering import renderer
from phq_data.rig import PortraitRig
from phq_data.stages.sequence import STAGES
from phq_data.workspace import Workspace

PHOTO_WIDTH, PHOTO_HEIGHT, PICTURE = 320, 240, 128
RECIPES = (*(stage.name for stage in STAGES), "dedup")


@dataclass
class SmallWorkspace:
    """What was written, for tests to compare with."""

    workspace: Workspace
    photos: list[dict] = field(default_factory=list)
    people: list[dict] = field(default_factory=list)
    fits: list[dict] = field(default_factory=list)
    portraits: list[dict] = field(default_factory=list)
    screened: list[dict] = field(default_factory=list)
    duplicates: list[dict] = field(default_factory=list)


def ball_rig() -> PortraitRig:
    """A head ball on a shoulder bolster."""
    polar, around = np.linspace(1e-3, np.pi - 1e-3, 12), np.linspace(0, 2 * np.pi, 24, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    ball = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(11), np.arange(24), indexing="ij")
    here, right = i * 24 + j, i * 24 + (j + 1) % 24
    faces = np.stack([here, here + 24, right, right, here + 24, right + 24], -1).reshape(-1, 3)
    vertices = np.concatenate([ball * 0.1 + [0, 0.13, 0], ball * [0.19, 0.07, 0.09] - [0, 0.1, 0]])
    weights = np.zeros((len(vertices), 2), np.float32)
    weights[: len(ball), 1] = 1
    return PortraitRig(
        vertices=vertices.astype(np.float32),
        faces=np.concatenate([faces, faces + len(ball)]).astype(np.int32),
        weights=weights,
        head_joint=np.array([0, 0.0649, 0], np.float32),
        landmarks=np.array([[0, 0, 0], [0, 0.0649, 0]], np.float32),
        landmark_weights=np.array([[0, 0], [1, 0]], np.float32),
        landmark_names=("neck", "head"),
        metadata={"origin": "drawn for a test", "license": "CC0-1.0"},
    )


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def struct(pixels, name) -> dict:
    return {"bytes": png(pixels), "path": name}


def filled(name: str, **values):
    """A row of table `name` with neutral values in every column not given."""
    row = {}
    for column in schema.SCHEMAS[name]:
        kind = str(column.type)
        size = getattr(column.type, "list_size", 0)
        plain = [0.0] * size if size else [] if kind.startswith("list") else "" if kind == "string" else 0
        row[column.name] = None if column.nullable else plain
    return {**row, **values}


def figure(rig, label, pose, size, background):
    """(picture [S, S, 3], mask [S, S]) of the rig seen by a label."""
    drawn = renderer.render_mesh(rig.posed(pose), rig.faces, *camera.from_label(label), size)
    alpha = drawn.rgba[..., 3:] / 255.0
    picture = drawn.rgba[..., :3] * alpha + np.array(background) * (1 - alpha)
    return picture.astype(np.uint8), drawn.rgba[..., 3]


def small_workspace(
    folder,
    count: int = 8,  # photos, one person each
    *,
    rejected: int = 2,  # of the portraits, by the screen
    twins: bool = True,  # the first two kept portraits are near-duplicates
    name: str = "photo {number}.png",
    author: str | None = "Ann Author",
    seed: int = 0,
    part_size: int = 5,
    store_photos: bool = True,
) -> SmallWorkspace:
    """Write a workspace of `count` readable photos, one file that is no image and one without people."""
    workspace = Workspace.open(folder, create=True)
    made = SmallWorkspace(workspace)
    rig = ball_rig()
    settings = config.default().replace_setting(f"crop.size={PICTURE}")
    workspace.write_bytes("config.json", settings.to_json().encode())
    workspace.write_bytes("rig.safetensors", rig.to_bytes())
    workspace.write_bytes("recipes.json", json.dumps({name: [name, "test"] for name in RECIPES}).encode())
    random = np.random.default_rng(seed)
    numbers = list(range(count + 2))
    for part, start in enumerate(range(0, len(numbers), part_size)):
        _part(made, part, numbers[start : start + part_size], count, rejected, name, author, rig, random,
              store_photos)  # fmt: skip
    kept = [row["portrait_id"] for row in made.screened if row["kept"]]
    if twins and len(kept) >= 2:
        first, second = sorted(kept)[:2]
        made.duplicates = [
            {"portrait_id": first, "cluster": first, "representative": True, "distance": 0},
            {"portrait_id": second, "cluster": first, "representative": False, "distance": 3},
        ]
    screened = [workspace.part_info("tables/screened", part) for part in workspace.parts("tables/screened")]
    table = schema.to_table("duplicates", made.duplicates)
    workspace.write_part("tables/duplicates", 0, table, fingerprint("dedup", screened))
    return made


def fingerprint(name, inputs) -> str:
    """Of a part that is made of `inputs` as `recipes.json` says."""
    return config.digest(name, "test", [info.content for info in inputs])


def _part(made, part, numbers, count, rejected, name, author, rig, random, store_photos) -> None:
    workspace = made.workspace
    plan, photos, people, fits, portraits, screened = [], [], [], [], [], []
    ledgers: dict[str, list[dict]] = {spec.name: [] for spec in STAGES}

    def note(stage, item, outcome="kept", reason="", message="", outputs=(), uri="", **evidence):
        ledgers[stage].append(
            {
                "stage": stage, "item": item, "outcome": outcome, "reason": reason, "message": message,
                "retryable": False, "evidence": json.dumps(evidence), "outputs": list(outputs), "uri": uri,
            }
        )  # fmt: skip

    for number in numbers:
        uri = "file:///pictures/" + name.format(number=number)
        provenance = {"provider": "folder", "source": "pictures", "uri": uri, "author": author,
                      "license": "CC0-1.0" if number % 2 else None}  # fmt: skip
        if number == count:  # the file that is no image
            item = schema.make_id(uri)
            plan.append({"item": item, "size": 9, "mtime_ns": 1, "sha256": "", "key": "",
                         "error": "not_an_image", "message": "it is a text", **provenance})  # fmt: skip
            note("ingest", item, "failed", "not_an_image", "it is a text", uri=uri)
            continue
        yaw = (number + 0.5) / max(1, count) * 2 * np.pi - np.pi
        pitch, roll = random.uniform(-0.3, 0.3), random.uniform(-0.1, 0.1)
        label = camera.to_label(camera.from_angles(yaw, pitch, roll))
        pose = random.uniform(-0.2, 0.2, 6)
        background = random.integers(40, 220, 3)
        picture, mask = figure(rig, label, pose, PICTURE, background)
        photo = np.broadcast_to(background.astype(np.uint8), (PHOTO_HEIGHT, PHOTO_WIDTH, 3)).copy()
        photo[60 : 60 + PICTURE, 96 : 96 + PICTURE] = picture
        data = png(photo)
        photo_id = hashlib.sha256(data).hexdigest()
        key = f"photos/{photo_id[:2]}/{photo_id}.png"
        if store_photos:
            workspace.write_bytes(key, data)
        plan.append({"item": photo_id, "size": len(data), "mtime_ns": 1, "sha256": photo_id, "key": key,
                     "error": "", "message": "", **provenance})  # fmt: skip
        photos.append({"photo_id": photo_id, "key": key, "width": PHOTO_WIDTH, "height": PHOTO_HEIGHT,
                       "format": "PNG", "bytes": len(data), "orientation": 1, "color": "sRGB",
                       "phash": number, **provenance})  # fmt: skip
        note("ingest", photo_id, outputs=[photo_id], uri=uri)
        if number == count + 1:
            note("detect", photo_id, "rejected", "no_person", "nobody is to be seen", uri=uri)
            continue
        keypoints = np.zeros((17, 3), np.float32)
        keypoints[:7] = [[160, 110, 0.9], [166, 104, 0.9], [154, 104, 0.9], [172, 106, 0.7], [148, 106, 0.1],
                         [190, 150, 0.9], [130, 150, 0.8]]  # fmt: skip
        person_id, fit_id = schema.make_id(photo_id, "person"), schema.make_id(photo_id, "fit")
        here = keypoints - np.array([96, 60, 0], np.float32)
        portrait_id = schema.make_id(photo_id, label.tolist())
        people.append({"person_id": person_id, "photo_id": photo_id, "detector": "movenet-abc", "order": 0,
                       "box": [110.0, 70, 210, 190], "keypoints": keypoints.reshape(-1).tolist(),
                       "score": 0.8, "photo_width": PHOTO_WIDTH, "photo_height": PHOTO_HEIGHT})  # fmt: skip
        note("detect", photo_id, outputs=[person_id], uri=uri)
        fits.append({"fit_id": fit_id, "person_id": person_id, "photo_id": photo_id, "fitter": "smplify-abc",
                     "body": "anny", "focal": 800.0, "principal": [160.0, 120.0],
                     "root_orient": [0.0, yaw, 0],
                     "translation": [0.0, 0, 2.7], "pose": pose.tolist(), "shape": [0.0, 0.1],
                     "joints": [0.0] * 39, "residual": 0.03, "residuals": [0.03] * 7 + [float("nan")] * 10,
                     "hypotheses": [yaw, 1.0, -yaw, 2.5], "converged": True})  # fmt: skip
        note("fit", person_id, outputs=[fit_id], uri=uri)
        models = {
            "detector": "movenet-abc",
            "fitter": "smplify-abc",
            "segmenter": "selfie-abc",
            "rig": "0123",
        }
        portraits.append({
            "portrait_id": portrait_id, "person_id": person_id, "fit_id": fit_id, "photo_id": photo_id,
            "camera": label.tolist(), "pose": pose.tolist(), "yaw": yaw, "pitch": pitch, "roll": roll,
            "window": [96.0, 60.0, float(PICTURE)], "size": PICTURE, "effective_resolution": 1.0,
            "padding": 0.0,
            "crop_mode": "fit", "keypoints": here.reshape(-1).tolist(), "landmark_error": 0.02,
            "shoulder_error": 0.31 if number < rejected else 0.03, "codec": "png",
            "models": json.dumps(models),
            "image": struct(picture, f"{portrait_id}.png"), "mask": struct(mask, f"{portrait_id}-mask.png"),
        })  # fmt: skip
        note("align_crop", fit_id, outputs=[portrait_id], uri=uri)
        bad = number < rejected
        overlay = renderer.overlay(picture, rig, label, pose)
        scores = {"blur": 0.5, "exposure_low": 0.01, "exposure_high": 0.02, "contrast": 0.6,
                  "effective_resolution": 1.0, "padding": 0.0, "landmark_error": 0.02,
                  "shoulder_error": 0.31 if bad else 0.03,
                  "mask_share": 0.4, "overlap": 0.0, "error_probability": 0.1}  # fmt: skip
        screened.append({
            "portrait_id": portrait_id, "photo_id": photo_id, "kept": not bad,
            "reasons": ["off_shoulders"] if bad else [], **scores, "phash": number,
            "overlay": struct(overlay, "overlay.png") if bad else None,
        })  # fmt: skip
        evidence = {**scores, "coverage": 0.75, "reasons": screened[-1]["reasons"]}
        if bad:
            note(
                "screen",
                portrait_id,
                "rejected",
                "off_shoulders",
                "31 % apart",
                [portrait_id],
                uri,
                **evidence,
            )
        else:
            note("screen", portrait_id, outputs=[portrait_id], uri=uri, **evidence)

    tables = {"photos": photos, "people": people, "fits": fits, "portraits": portraits, "screened": screened}
    infos = {"plan": workspace.write_part("plan", part, schema.to_table("plan", plan), "test")}
    for index, spec in enumerate(STAGES):
        table = schema.to_table(spec.table, tables[spec.table])
        made_from = fingerprint(spec.name, [infos[kind.table] for kind in spec.reads])
        infos[spec.table] = workspace.write_part(f"tables/{spec.table}", part, table, made_from)
        rows = ledgers[spec.name]
        counts = {kind: sum(r["outcome"] == kind for r in rows) for kind in ("kept", "rejected", "failed")}
        extra = {"items": len(rows), **counts, "retryable": 0, "seconds": 0.5 * (index + 1)}
        workspace.write_part(f"ledger/{spec.name}", part, schema.to_table("ledger", rows), made_from, extra)
        getattr(made, spec.table).extend(tables[spec.table])
