"""Facts about the repository itself."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import phq_data

ROOT = Path(__file__).resolve().parent.parent
# Written in pieces, so that this file does not name them either.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_package_registry():
    named = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked()
        for host in REGISTRIES
        if host.encode() in path.read_bytes()
    ]
    assert named == []


def test_the_lock_template_holds_hashes_and_placeholders_but_no_address():
    text = (ROOT / "uv.lock.in").read_text()
    assert "://" not in text.replace('source = { registry = "@INDEX@" }', "")
    assert text.count("sha256:") > 500
    assert '"@FILES@/' in text


@pytest.mark.parametrize("package", ["phq-data", "portraitgan", "phq-flows", "phq-review", "phq"])
def test_every_package_has_the_one_version(package):
    assert importlib.metadata.version(package) == phq_data.__version__


def test_the_changelog_has_a_section_for_the_version():
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    release, _, development = phq_data.__version__.partition(".dev")
    # Before a release the section is open: its number and the word "unreleased".
    assert headings[0].startswith(f"## [{release}]")
    assert ("unreleased" in headings[0]) == bool(development)


@pytest.mark.parametrize(
    "module", ["phq_data.camera", "phq_data.rig", "phq_data.schema", "phq_data.cli.main"]
)
def test_the_light_core_and_the_program_import_nothing_heavy(module):
    heavy = ["torch", "prefect", "ultralytics", "streamlit", "scipy", "onnxruntime", "PIL", "pandas"]
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_review_service_starts_without_what_only_other_commands_need():
    heavy = ["torch", "prefect", "streamlit", "scipy", "onnxruntime", "pandas", "jinja2"]
    code = f"import sys, annotator_app.service; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name, package", [("review", "phq-review"), ("build", "phq-flows")])
def test_a_command_whose_package_is_missing_says_which(name, package):
    code = (
        "import importlib.metadata as metadata, sys\n"
        "every = metadata.entry_points\n"
        "def rest(**group):\n"
        f"    return [one for one in every(**group) if one.name != {name!r}] if group else every()\n"
        "metadata.entry_points = rest\n"
        f"sys.argv = ['phq', {name!r}, '-w', 'somewhere', '--help']\n"
        "from phq_data.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"needs the package {package}: make setup" in done.stderr


def test_help_is_quick_to_load_and_lists_the_jobs():
    code = (
        "import sys; sys.argv = ['phq', '--help']\n"
        "from phq_data.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules and 'prefect' not in sys.modules, 'heavy import in --help'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("build", "report", "doctor", "inspect"):
        assert command in done.stdout
