"""`phq-serve.toml`: what is wrong with it is one sentence that names the setting."""

from datetime import timedelta

import pytest
from programs import phq_here

from phq_data.typed_json import ConfigError
from phq_flows import serve_file

ONE = '[[deployments]]\nflow = "build"\nparameters = { workspace = "ws" }\n'


def written(folder, text):
    path = folder / "phq-serve.toml"
    path.write_text(text)
    return path


def test_the_example_is_what_it_says(tmp_path):
    path = tmp_path / "phq-serve.toml"
    shown = phq_here("serve", str(path), "--init")
    assert shown.returncode == 0 and "phq serve" in shown.stdout
    file = serve_file.read(path)
    assert [one.flow for one in file.deployments] == ["scrape", "build", "report", "release"]
    assert [one.called for one in file.deployments] == ["commons", "nightly", "report", "release"]
    assert file.deployments[0].period() == timedelta(days=1) and file.limits == {"phq-gpu": 1}
    again = phq_here("serve", str(path), "--init")
    assert again.returncode == 1 and "is there already" in again.stderr
    assert path.read_text() == serve_file.EXAMPLE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limit = 2", "there is no 'deployments', which must be given"),
        ("deployments = []", "there is no [[deployments]]"),
        ("[[deployments", "no valid TOML"),
        (ONE + 'crom = "0 3 * * *"', "there is no setting 'deployments.0.crom'; did you mean"),
        (ONE.replace('"build"', '"bild"'), "'deployments.0.flow' is one of scrape, build, report"),
        (ONE + 'cron = "0 3 * * *"\nevery = "1 h"', "deployments.0 (build): give cron or every, not both"),
        (ONE + 'every = "0 h"', "for example '6 h', not '0 h'"),
        (ONE + 'every = "6 hours"', "for example '6 h', not '6 hours'"),
        (ONE + 'every = "99999999999 d"', "at most '3660 d', for example '6 h', not '99999999999 d'"),
        (ONE + 'every = "999999999 d"', "at most '3660 d'"),
        (ONE + f'every = "{"9" * 5000} s"', "at most '3660 d'"),
        ("lost_after_seconds = 59\n" + ONE, "lost_after_seconds is 60 to 86400, not 59: a healthy run gives"),
        (f"lost_after_seconds = {10**12}\n" + ONE, "lost_after_seconds is 60 to 86400, not 1000000000000"),
        (ONE + 'timezone = "Europe/Berlim"', "did you mean 'Europe/Berlin'?"),
        (ONE + "concurrency_limit = 0", "setting 'deployments.0.concurrency_limit' must be a finite number"),
        (ONE + f"concurrency_limit = {2**40}", "should be less than or equal to 1000000, not 1099511627776"),
        (ONE + ONE, "another build has the name 'build', too"),
        (ONE + 'name = "a/b"', "a name holds no / and no %"),
        ("limit = true\n" + ONE, "setting 'limit' wants a whole number, not True"),
        (ONE.replace('"ws"', '"ws", concurrency_limit = "gpu"'), "[limits] has no 'gpu'"),
        (ONE.replace('"ws"', '"ws", concurrency_limit = ["gpu"]'), "[limits] has no ['gpu']"),
        (ONE.replace('"ws"', '"ws", concurrency_limit = { a = 1 }'), "[limits] has no {'a': 1}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as told:
        serve_file.read(path)
    assert words in str(told.value) and str(path) in str(told.value)


def test_a_file_that_is_not_there_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="phq serve --init"):
        serve_file.read(tmp_path / "none.toml")


def test_without_a_server_serve_says_how_to_have_one(tmp_path, monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    written(tmp_path, ONE)
    done = phq_here("serve")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "prefect server start" in done.stderr and "PREFECT_API_URL=http" in done.stderr
