import json
from datetime import date
from pathlib import Path

import pytest

from phq_data.sources import terms
from phq_data.sources.terms import COLLECTING, TERMS, USES, Permission, TermsError

STATEMENT = {
    "who": "Rosa", "scope": ["search", "store", "train"], "date": "2026-11-01", "reference": "letter 12",
    "provider": "pexels",
}  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
def test_every_provider_says_something_about_every_use_with_page_and_date(name):
    entry = TERMS[name]
    assert set(entry.uses) == set(USES)
    assert all(why and verdict for verdict, why in entry.uses.values())
    assert entry.page and date.fromisoformat(entry.checked)


def test_what_the_terms_bar_is_refused_and_explained():
    for provider in ("pexels", "unsplash"):
        with pytest.raises(TermsError) as caught:
            terms.require(provider)
        text = str(caught.value)
        assert "--permission FILE" in text and TERMS[provider].page in text and "train" in text
    for provider in ("wikimedia", "openverse", "unsplash-lite", "urls", "folder"):
        terms.require(provider)


def test_a_permission_lets_run_what_it_covers_and_nothing_else():
    given = Permission.parse(STATEMENT)
    terms.require("pexels", [given])
    with pytest.raises(TermsError):
        terms.require("unsplash", [given])
    with pytest.raises(TermsError, match="store"):
        terms.require("pexels", [Permission.parse({**STATEMENT, "scope": ["search", "train"]})])
    with pytest.raises(TermsError, match="publish-images"):
        terms.require("pexels", [given], ["publish-images"])


def test_a_listed_address_falls_under_the_terms_of_its_host():
    row = {"provider": "urls", "file_url": "https://images.pexels.com/photos/1/a.jpeg"}
    assert set(terms.objections(row, COLLECTING)) == set(COLLECTING)
    assert terms.objections(row, COLLECTING, [Permission.parse(STATEMENT)]) == {}
    assert terms.objections({**row, "file_url": "https://notpexels.com/a.jpeg"}, COLLECTING) == {}
    assert terms.objections({**row, "file_url": "http://[broken"}, COLLECTING) == {}


def test_a_permission_goes_into_a_row_and_comes_back():
    given = Permission.parse(STATEMENT)
    assert terms.recorded({"permission": terms.record_of([given])}) == (given,)
    assert json.loads(terms.record_of([given]))["reference"] == "letter 12"  # as every release so far has it
    other = Permission.parse({**STATEMENT, "who": "Ada"})
    assert terms.recorded({"permission": terms.record_of([given, other])}) == (given, other)
    assert terms.record_of([]) is None and terms.recorded({"permission": "[1]"}) == ()
    assert terms.recorded({"permission": "they said so"}) == terms.recorded({}) == ()


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"who": ""}, "'who'"),
        ({"scope": []}, "scope"),
        ({"scope": ["everything"]}, "scope"),
        ({"date": "yesterday"}, "isoformat"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_statement_that_is_not_whole_is_refused(tmp_path, broken, word):
    path = tmp_path / "permission.json"
    path.write_text(json.dumps({**STATEMENT, **broken}))
    with pytest.raises(TermsError, match=word):
        Permission.load(path)


def test_the_page_about_sources_shows_the_terms_as_they_are_in_the_data():
    page = Path(__file__).parents[4] / "docs/sources.md"
    rows = [
        line.strip("| \n").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")
    ]
    shown = {row[0]: row[1:] for row in rows if row[0] in TERMS and len(row) == 1 + len(USES)}
    assert shown == {name: [entry.verdict(use) for use in USES] for name, entry in TERMS.items()}


@pytest.mark.parametrize("scope", [[["store"]], [{}], [None], ["store", []]])
def test_a_scope_of_odd_values_is_told(scope):
    with pytest.raises(ValueError, match="its scope must be a list of"):
        Permission.parse({"who": "Ada", "scope": scope, "date": "2026-01-01", "reference": "x"})
