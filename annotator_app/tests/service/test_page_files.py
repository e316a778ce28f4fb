"""The page's files in memory, by version and language."""

import json
import re
import shutil
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from annotator_app.service import page_files
from annotator_app.service.page_files import PageFiles

STATIC = Path(page_files.__file__).parent.parent / "static"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(STATIC, tmp_path / "static"))


def served(files):
    app = FastAPI()
    files.add(app)
    return TestClient(app)


def addresses(html):
    return re.findall(r'"(/assets/[^"]+)"', html)


def test_an_upgrade_under_a_running_service_changes_nothing_of_what_it_serves(folder):
    client = served(PageFiles(folder))
    page = client.get("/").text
    before = {one: client.get(one).content for one in addresses(page)}
    (folder / "review.js").write_text("new();")
    (folder / "index.html").unlink()
    assert client.get("/").text == page
    assert {one: client.get(one).content for one in addresses(page)} == before
    assert client.get("/assets/000000000000/review.js").status_code == 404


def test_a_change_of_any_file_changes_every_address(folder):
    before = PageFiles(folder).version
    (folder / "texts" / "de.json").write_text((folder / "texts" / "de.json").read_text() + "\n")
    assert PageFiles(folder).version != before


def test_every_address_of_the_page_is_of_the_version_and_there():
    files = PageFiles()
    client = served(files)
    for path in ("/", "/login"):
        for one in addresses(client.get(path).text):
            assert one.startswith(f"/assets/{files.version}/")
            answer = client.get(one)
            assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert (
        client.get(f"/assets/{files.version}/review.js").headers["content-type"].startswith("text/javascript")
    )


def test_the_worker_keeps_every_file_of_its_version_and_a_page_in_each_language():
    files = PageFiles()
    client = served(files)
    answer = client.get("/worker.js")
    assert answer.headers["cache-control"] == "no-cache" and "{{" not in answer.text
    listed = json.loads(re.search(r"const FILES = (\[.*?\]);", answer.text)[1])
    assert {f"/assets/{files.version}/index.{one}.html" for one in files.texts} <= set(listed)
    scripts = {f"/assets/{files.version}/{one.name}" for one in STATIC.glob("*.js")}
    assert scripts - set(listed) == {f"/assets/{files.version}/worker.js"}
    assert all(client.get(one).status_code == 200 for one in listed)
    assert client.get(f"/assets/{files.version}/worker.js").status_code == 404  # it would see nothing of "/"


@pytest.mark.parametrize(
    ("accepted", "cookie", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", None, "de"), ("en-US,en;q=0.9,de;q=0.8", None, "en"),
        ("fr,de;q=0.5,en;q=0.4", None, "de"), ("en;q=0.1,de;q=0.2", None, "de"), ("de;q=0", None, "en"),
        ("zh", None, "en"), ("", None, "en"), (";q=,,;;q=x", None, "en"), ("en", "de", "de"),
        ("de", "en", "en"), ("de", "../../x", "de"),
    ],
)  # fmt: skip
def test_the_language_is_the_chosen_one_or_the_browsers(accepted, cookie, language):
    headers = {"Accept-Language": accepted, **({"Cookie": f"phq_language={cookie}"} if cookie else {})}
    for path in ("/", "/login"):
        answer = served(PageFiles()).get(path, headers=headers)
        assert answer.headers["content-language"] == language
        assert f'<html lang="{language}"' in answer.text and "{{" not in answer.text


def test_every_language_has_every_text_with_the_same_places():
    english, *others = (json.loads((STATIC / f"texts/{one}.json").read_text()) for one in ("en", "de"))
    marks = re.compile(r"\{\w+\}|\[\[\w+\]\]|\*\*")
    for texts in others:
        assert texts.keys() == english.keys()
        for key, text in texts.items():
            assert sorted(marks.findall(text)) == sorted(marks.findall(english[key])), key
            assert text.strip(), key


def test_no_text_is_missing_or_left_over():
    texts = json.loads((STATIC / "texts/en.json").read_text())
    scripts = "".join(one.read_text() for one in STATIC.glob("*.js"))
    pages = "".join(one.read_text() for one in STATIC.glob("*.html"))
    in_pages = set(re.findall(r"\{\{([\w.]+)\}\}", pages)) - {"texts", "lang", "langs"}
    calls = "".join(re.findall(r"\bt\(([^`{]*?)[,)]", scripts))
    asked = in_pages | set(re.findall(r'"([\w.+-]+)"', calls))
    assert asked - texts.keys() == set()
    begun = tuple(
        re.findall(r"(?:\bt|known)\(`([\w.]+)\$\{", scripts)
    )  # put together, such as `past.${verdict}`
    assert all(any(key.startswith(one) for key in texts) for one in begun)
    used = in_pages | set(re.findall(r'"([\w.+-]+)"', scripts))
    assert {key for key in texts if key not in used and not key.startswith(begun)} == set()


def test_every_key_and_reason_has_its_text():
    from phq_data.review.rules import REASONS

    texts = json.loads((STATIC / "texts/en.json").read_text())
    actions = re.findall(r'group: "(\w+)", action: "(\w+)"', (STATIC / "keys.js").read_text())
    assert len(actions) > 20
    assert {f"key.{action}" for _, action in actions} | {f"group.{one}" for one, _ in actions} <= texts.keys()
    assert {key: texts[f"reason.{key}"] for key in REASONS} == dict(REASONS)
