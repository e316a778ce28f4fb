"""Files that version 0.1.0 wrote are read: what is in `v1/` and how it was made stands in its README."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phq_data import config as configs
from phq_data.compatibility import COLUMNS, REASONS, SETTINGS, RenamedWarning, upgrade_command_line
from phq_data.images.codecs import decode_struct
from phq_data.workspace import Workspace

V1 = Path(__file__).parent / "v1"
EXPECTED = json.loads((V1 / "expected.json").read_text())


def sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# ---- workspaces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["workspace", "scraped"])
def test_every_table_has_its_rows(v1: Path, name: str) -> None:
    opened = Workspace.open(v1 / name)
    for table, rows in EXPECTED[name]["rows"].items():
        assert opened.table(table).num_rows == rows, table


def test_a_portrait_is_what_it_was(workspace: Workspace) -> None:
    wanted = EXPECTED["workspace"]["portrait"]
    row = workspace.row("portraits", wanted["portrait_id"])
    np.testing.assert_array_equal(np.float32(row["camera"]), np.float32(wanted["camera"]))
    np.testing.assert_array_equal(np.float32(row["pose"]), np.float32(wanted["pose"]))
    np.testing.assert_array_equal(row["window"], wanted["window"])
    assert row["landmark_error"] == np.float32(wanted["residual"])
    assert row["shoulder_error"] == np.float32(wanted["shoulder_residual"])
    assert row["effective_resolution"] == np.float32(wanted["source_pixels"])
    assert sha256(decode_struct(row["image"])) == wanted["pixels"]
    assert sha256(decode_struct(row["mask"])) == wanted["mask"]


def test_a_fit_is_what_it_was(workspace: Workspace) -> None:
    wanted = EXPECTED["workspace"]["fit"]
    row = workspace.row("fits", wanted["fit_id"])
    for name, old in (("residual", "residual"), ("yaw_std", "yaw_deviation")):
        assert row[name] == np.float32(wanted[old])
    for name, old in (("hypotheses", "alternatives"), ("orientation_prior", "view_guess")):
        np.testing.assert_array_equal(np.float32(row[name]), np.float32(wanted[old]))


def test_the_screening_is_what_it_was(workspace: Workspace) -> None:
    """Evidence and verdicts; the expected yaw error was written in degrees."""
    found = {row["portrait_id"]: row for row in workspace.table("screened").to_pylist()}
    assert set(found) == set(EXPECTED["workspace"]["screened"])
    for portrait, wanted in EXPECTED["workspace"]["screened"].items():
        row = found[portrait]
        assert row["kept"] == wanted["kept"]
        assert row["reasons"] == [REASONS.get(reason, reason) for reason in wanted["reasons"]]
        assert row["error_probability"] == np.float32(wanted["doubt"])
        assert np.degrees(row["expected_yaw_error"]) == pytest.approx(wanted["yaw_error_degrees"], rel=1e-6)


def test_what_is_kept_and_what_is_twice(workspace: Workspace) -> None:
    assert sorted(workspace.kept(["portrait_id"])["portrait_id"].to_pylist()) == EXPECTED["workspace"]["kept"]
    twins = workspace.table("duplicates").to_pylist()
    assert [row["portrait_id"] for row in twins if not row["representative"]] == EXPECTED["workspace"][
        "twins"
    ]


def test_the_ledger_says_what_became_of_everything(workspace: Workspace) -> None:
    counts: dict[str, int] = {}
    for row in workspace.table("ledger").to_pylist():
        name = " ".join(filter(None, (row["stage"], row["outcome"], row["reason"])))
        counts[name] = counts.get(name, 0) + 1
    wanted = EXPECTED["workspace"]["ledger"]
    now = {
        name.replace("portray", "align_crop").replace("doubtful", "uncertain"): count
        for name, count in wanted.items()
    }
    assert counts == now


@pytest.mark.parametrize("name", ["workspace", "scraped"])
def test_a_build_runs_no_stage_again(v1: Path, tmp_path: Path, name: str) -> None:
    """Both with settings away from the defaults and with the default ones."""
    from phq_data.pipeline.engine import load_config
    from phq_data.pipeline.local import run_inline

    shutil.copytree(v1 / name, tmp_path / name)
    opened = Workspace.open(tmp_path / name)
    report = run_inline(opened, load_config(opened), [])
    assert report.errors == []
    assert len(report.reports) == 5 * len(opened.parts("plan"))
    assert [part for part in report.reports if not part.skipped] == []


def test_settings_of_the_last_build_are_carried_over(workspace: Workspace) -> None:
    from phq_data.pipeline.engine import load_config

    found = load_config(workspace)
    assert (found.part_size, found.crop.size) == (3, 64)
    assert (found.fit.orientation_prior, found.fit.initializations) == ("keypoints", 3)
    assert (found.detect.flip_tta, found.detect.second_pass) == (False, True)
    assert found.screen.max_error_probability == 0.6


def test_the_errors_of_a_workspace_are_what_they_were(v1: Path, workspace: Workspace) -> None:
    from phq_data.evaluation import accuracy
    from phq_data.rig import PortraitRig
    from phq_data.synthesis.truth import read_truth

    known = read_truth(v1 / "truth.parquet")
    assert known.num_rows == EXPECTED["truth"]["people"]
    np.testing.assert_array_equal(
        np.float32(known["camera"][0].as_py()), np.float32(EXPECTED["truth"]["camera"])
    )
    errors = accuracy.measure(workspace, known, PortraitRig.load(workspace.path("rig.safetensors")))
    numbers = accuracy.summary(errors)
    assert numbers["count"] == EXPECTED["truth"]["accuracy"]["count"]
    assert numbers["kept_share"] == EXPECTED["truth"]["accuracy"]["kept_share"]
    assert numbers["yaw_deg"]["median"] == pytest.approx(EXPECTED["truth"]["accuracy"]["yaw_deg"]["median"])
    assert keys(numbers) == json_keys()["phq accuracy --json"]


def test_the_scrape_is_remembered(v1: Path, tmp_path: Path) -> None:
    """What was found and what became of it: the same list is not read and nothing is fetched again."""
    from phq_data.sources.web.journal import Journal

    shutil.copytree(v1 / "scraped", tmp_path / "scraped")
    journal = Journal.open(Workspace.open(tmp_path / "scraped"))
    query = EXPECTED["scraped"]["query"]
    state = journal.query("urls", query)
    journal.close()
    assert (state.pages, state.found, state.finished) == (1, 3, True)


# ---- the review ------------------------------------------------------------------------------------------


def test_the_log_of_a_store_stands(workspace: Workspace) -> None:
    from phq_data.review.decisions import current
    from phq_data.review.store import Store

    store = Store.open(workspace)
    rows = list(store.entries())
    policy = store.policy()
    store.close()
    wanted = EXPECTED["review"]
    assert [[row.reviewer, row.portrait_id, row.verdict] for row in rows] == wanted["log"]
    assert [row.note for row in rows if row.note] == wanted["notes"]
    assert (policy.gold_share, policy.overlap_share) == (0.1, 0.25)
    assert {one: found.state for one, found in current(workspace).items()} == wanted["states"]


def test_gold_items_and_reviewers_stand(workspace: Workspace) -> None:
    import sqlalchemy as sa

    from phq_data.review import reviewers
    from phq_data.review.store import Store
    from phq_data.review.tables import ITEMS

    store = Store.open(workspace)
    with store.database.read() as connection:
        gold = connection.execute(sa.select(ITEMS.c.portrait_id).where(ITEMS.c.gold == "accept")).scalars()
        assert list(gold) == EXPECTED["review"]["known"]
    assert [(one.name, one.role) for one in reviewers.everybody(store)] == [("Ada L.", "lead")]
    store.close()


@pytest.mark.parametrize("file", ["decisions.csv", "decisions.parquet"])
def test_exported_decisions_are_taken_over_once(
    v1: Path, workspace: Workspace, tmp_path: Path, file: str
) -> None:
    from phq_data.review import exchange
    from phq_data.review.store import Store

    store = Store.open(workspace)
    assert exchange.load(store, v1 / file) == (12, 0)
    store.close()
    other = Store.open(Workspace.open(tmp_path / "other", create=True))
    assert exchange.load(other, v1 / file) == (12, 12)
    other.close()


def test_the_decisions_in_the_tables_replace_a_lost_store(workspace: Workspace) -> None:
    from phq_data.review.decisions import current, recover
    from phq_data.review.store import Store

    Path(workspace.path("review/review.sqlite")).unlink()
    store = Store.open(workspace)
    assert recover(workspace, store) == 12
    store.close()
    assert {one: found.state for one, found in current(workspace).items()} == EXPECTED["review"]["states"]


# ---- releases --------------------------------------------------------------------------------------------


def test_a_release_opens_without_what_was_taken_down(releases: Path) -> None:
    from phq_data.release import reader

    release = reader.open(releases / "1.0.0", digest=EXPECTED["release"]["digest"])
    assert release.index.num_rows == EXPECTED["release"]["rows"]
    rows = list(release.all().stream())
    assert [row["portrait_id"] for row in rows] == EXPECTED["release"]["readable"]
    assert release.find(EXPECTED["release"]["taken_down"]) is None


def test_a_released_portrait_is_what_it_was(releases: Path) -> None:
    from phq_data.release import reader

    wanted = EXPECTED["release"]["portrait"]
    row = reader.open(releases / "1.0.0").find(wanted["portrait_id"])
    assert row is not None
    for name in ("camera", "pose", "truth_camera", "truth_pose"):
        np.testing.assert_array_equal(np.float32(row[name]), np.float32(wanted[name]))
    for old, name in COLUMNS["release"].items():
        assert old not in row
        if old in wanted:
            assert row[name] == (wanted[old] if old == "licence" else np.float32(wanted[old])), name
    assert row["split"] == wanted["split"]
    assert sha256(decode_struct(row["image"])) == wanted["image_pixels"]


def test_a_release_verifies(releases: Path) -> None:
    from phq_data.release.verify import verify

    assert verify(releases / "1.0.0", pixels=True) == []


def test_a_next_version_is_built_on_a_release(workspace: Workspace, releases: Path) -> None:
    from phq_data.release.build import ReleaseOptions, build

    options = ReleaseOptions(name="phq-portraits-v1", created="2026-02-01")
    result = build(workspace, releases, "2.0.0", options)
    assert result.manifest.rows == EXPECTED["release"]["rows"] - 1
    assert result.changes is not None
    assert (result.changes.added, result.changes.taken_down) == (0, 1)


def test_the_list_of_what_was_taken_down_forbids(releases: Path) -> None:
    from fsspec.implementations.local import LocalFileSystem

    from phq_data.release import tombstones

    found = tombstones.read(LocalFileSystem(), str(releases))
    assert sorted(entry.kind for entry in found.entries) == ["author", "url"]
    row = {"portrait_id": "0", "photo_id": "0", "page_url": "http://www.example.org/gone/"}
    assert found.forbids(row)
    assert not found.forbids({**row, "page_url": "https://example.org/here"})


# ---- settings and command lines --------------------------------------------------------------------------


def test_a_file_of_settings_is_read() -> None:
    """Every setting has another value than the default one; only `fit.view` has it, under its old name."""
    with pytest.warns(RenamedWarning) as told:
        found = configs.PipelineConfig.from_dict(json.loads((V1 / "settings.json").read_text()))
    assert (found.detect.model, found.detect.flip_tta, found.detect.second_pass) == ("yolo", False, False)
    fit = found.fit
    assert (fit.initializations, fit.orientation_prior, fit.max_residual) == (8, "image", 0.16)
    assert (found.crop.published_center_formula, found.crop.mode) == (True, "reference")
    assert (found.crop.size, found.mask.include_bystanders) == (256, True)
    screen = found.screen
    limits = (screen.max_error_probability, screen.max_landmark_error, screen.max_shoulder_error)
    assert (*limits, screen.min_effective_resolution) == (0.45, 0.07, 0.14, 0.5)
    (line,) = [str(warning.message) for warning in told]
    assert "\n" not in line
    assert "fit.view=picture is now fit.orientation_prior=image" in line
    for old, new in SETTINGS.items():
        assert (old == "fit.view") or f"{old} is now {new}" in line


def test_a_file_of_a_few_settings_leaves_the_others_alone() -> None:
    with pytest.warns(RenamedWarning):
        found = configs.PipelineConfig.from_dict(json.loads((V1 / "settings_of_one.json").read_text()))
        changed = configs.default().replace_setting("fit.view=none").replace_setting("mask.everybody=true")
    assert found == changed


def test_a_setting_under_both_names_is_refused() -> None:
    both = {"fit": {"view": "none", "orientation_prior": "none"}}
    with pytest.raises(
        configs.ConfigError, match=r"'fit.orientation_prior' is there twice, once as 'fit.view'"
    ):
        configs.PipelineConfig.from_dict(both)


def test_every_option_is_still_taken() -> None:
    import typer

    from phq_data.cli.main import make_app
    from portraitgan.commands import main as generator
    from portraitgan.commands.former_options import translated

    found = options_of_click(typer.main.get_command(make_app()), "phq")
    found |= options_of_click(typer.main.get_command(generator.make_app()), "portraitgan")
    for command, options in json.loads((V1 / "options.json").read_text()).items():
        named = {option for option in options if option.startswith("-")}
        if command.startswith("portraitgan "):
            named = {translated([command.split()[1], option], print)[1] for option in named}
        elif command.startswith("phq "):
            named = {current([*command.split()[1:], option])[-1] for option in named}
            command = " ".join(["phq", *current(command.split()[1:])])
        assert named <= found[command], command


def options_of_click(command: Any, name: str) -> dict[str, set[str]]:
    """Command -> its options, subcommands included."""
    found = {name: {text for one in command.params for text in (*one.opts, *one.secondary_opts)}}
    for inner, one in getattr(command, "commands", {}).items():
        found |= options_of_click(one, f"{name} {inner}")
    return found


def current(words: list[str]) -> list[str]:
    """A command line of phq in today's words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedWarning)
        return upgrade_command_line(words)


def commands() -> list[str]:
    lines = (V1 / "command_lines.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("line", commands())
def test_a_command_line_is_understood(line: str) -> None:
    import typer

    program, *words = shlex.split(line)
    if program == "portraitgan":
        from portraitgan.commands.former_options import translated
        from portraitgan.commands.main import make_app

        words = translated(words, print)
    else:
        from phq_data.cli.main import make_app

        words = current(words)
    understand(typer.main.get_command(make_app()), program, words)


@pytest.mark.parametrize("setting", [
    "fit.view=keypoints", "fit.starts=8", "detect.mirror=false", "detect.search=false",
    "screen.max_doubt=0.5", "mask.everybody=true", "crop.as_published=true", "screen.min_source_pixels=0.5",
    "screen.max_residual=0.1", "screen.max_shoulder_residual=0.2",
])  # fmt: skip
def test_a_setting_is_changed_by_the_name_it_had(setting: str) -> None:
    assert any(f"--set {setting}" in line for line in commands())
    with pytest.warns(RenamedWarning, match=f"{setting.partition('=')[0]} is now ") as told:
        changed = configs.default().replace_setting(setting)
    assert changed != configs.default()
    assert len(told) == 1


def understand(command: Any, name: str, words: list[str]) -> None:
    """Parse as the program would; a click error for what it does not know."""
    context = command.make_context(name, list(words))
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if hasattr(command, "commands") and rest:
        inner, found, rest = command.resolve_command(context, rest)
        understand(found, inner, rest)


# ---- training --------------------------------------------------------------------------------------------


def test_a_run_is_read(v1: Path) -> None:
    from portraitgan.checkpoints import checkpoint
    from portraitgan.training import statistics
    from portraitgan.training.run import read_run_config

    found = read_run_config(v1 / "run")
    assert found is not None
    assert (found.name, found.batch.size, found.ema.half_life) == ("smallest", 4, 500.0)
    loaded = checkpoint.load(checkpoint.latest(v1 / "run"))
    assert loaded.config == found.model
    assert (loaded.state.images, loaded.state.iteration, loaded.state.stage) == (16, 4, "3")
    assert sum(value.numel() for value in loaded.networks["generator_ema"].values()) == 10_980
    rows = statistics.read(v1 / "run")
    assert [round(row.kimg, 3) for row in rows] == [0.004, 0.008, 0.012, 0.016]


def test_a_model_renders_what_it_did(v1: Path) -> None:
    """Within rounding: another processor multiplies in another order."""
    from portraitgan.inference.model import open_model

    model = open_model(v1 / "run", device="cpu")
    made = model.render(model.styles(model.latents([0]), 0.7), model.neutral_camera)
    wanted = EXPECTED["run"]
    assert list(made.image.shape) == wanted["shape"]
    np.testing.assert_allclose(made.image.mean(dim=(0, 2, 3)).numpy(), wanted["mean_colour"], atol=1e-3)
    np.testing.assert_allclose(made.image.std().item(), wanted["deviation"], rtol=1e-2)


def test_an_inversion_is_shown(v1: Path) -> None:
    from portraitgan.inference.latents import from_latent_file
    from portraitgan.inference.model import open_model

    subject = from_latent_file(open_model(v1 / "run", device="cpu"), v1 / "latent" / "latent.safetensors")
    assert tuple(subject.ws.shape) == tuple(EXPECTED["run"]["latent"]["shape"])
    assert subject.ws.mean().item() == pytest.approx(EXPECTED["run"]["latent"]["mean"], abs=1e-6)


def test_a_run_goes_on(v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the pixels kept on the disk, and without the portrait that was taken down meanwhile."""
    from portraitgan.commands.main import main

    for name in ("run", "releases", "cache"):
        shutil.copytree(v1 / name, tmp_path / name)
    line = ["train", "--data", f"{tmp_path}/releases/1.0.0", "--out", f"{tmp_path}/run", "--device", "cpu"]
    line += ["--cache", f"{tmp_path}/cache"]
    assert main(line) == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert main([*line, "--change", "--set", "stages.2.until_kimg=0.02"]) == 0
    said = capsys.readouterr()
    assert "decoded portraits are kept in" in said.out
    assert (tmp_path / "run" / "latest").read_text() == "kimg-000000.020\n"


# ---- JSON that programs read -----------------------------------------------------------------------------


def json_keys() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((V1 / "json_keys.json").read_text())
    return found


def keys(value: Any, before: str = "") -> list[str]:
    """Dotted names of everything in a JSON value, sorted; `[]` stands for the entries of a list."""
    if isinstance(value, dict):
        inner = {f"{before}.{name}" if before else name: one for name, one in value.items()}
        return sorted({path for name, one in inner.items() for path in (name, *keys(one, name))})
    if isinstance(value, list):
        return sorted({path for one in value for path in keys(one, f"{before}[]")})
    return []


def test_the_keys_of_consistency_stay() -> None:
    from phq_data.evaluation import equivariance

    found = keys(equivariance.summary([], equivariance.Tally(0, (), 0)))
    wanted = json_keys()["phq consistency --json"]
    assert found == [name for name in wanted if not name.startswith(("unread[]", "worst[]"))]
