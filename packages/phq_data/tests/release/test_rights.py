import json

import pytest

from phq_data.release import reader, rights
from phq_data.release.build import build
from phq_data.release.rights import Permission, RightsError
from phq_data.sources import terms

from .conftest import DAY, options

STATEMENT = {"who": "Rosa", "scope": ["train"], "date": DAY, "reference": "letter 12"}


def row(**changes):
    return {"portrait_id": "p", "provider": "folder", "license": None, "permission": None, **changes}


@pytest.mark.parametrize("license", ["CC0-1.0", "PDM-1.0", "PD", "CC-BY-4.0", "CC-BY-2.0-de", "CC-BY-SA-3.0"])
def test_free_licenses_pass_for_every_use(license):
    assert all(rights.refusal(row(license=license), use) == "" for use in rights.USES)


@pytest.mark.parametrize(
    "license", [None, "", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "Pexels", "free", "CC-BY-SA-NC", "CC-BY-4.0-nd"]
)
def test_everything_else_is_refused_for_every_use(license):
    assert all(rights.refusal(row(license=license), use) for use in rights.USES)


def test_a_providers_terms_stand_above_a_files_license():
    assert "Pexels" in rights.refusal(row(provider="pexels", license="CC0-1.0"), "train")
    lite = row(provider="unsplash-lite")
    assert rights.refusal(lite, "train") == ""
    assert "no portion" in rights.refusal(lite, "publish-images")
    assert "no portion" in rights.refusal(lite, "publish-ids")


def test_renders_pass_by_their_license_like_everything_else():
    assert rights.refusal(row(provider="synthetic", license="CC0-1.0"), "publish-images") == ""
    assert rights.refusal(row(provider="synthetic"), "train")  # somebody's photo may be in the background


def test_a_permission_covers_its_scope_and_its_provider_only():
    given = Permission("Rosa", ("train",), DAY, "letter", provider="folder")
    assert rights.refusal(row(), "train", [given]) == ""
    assert rights.refusal(row(), "publish-images", [given])
    assert rights.refusal(row(provider="pexels"), "train", [given])


def test_a_permission_recorded_in_the_row_counts_and_words_alone_do_not():
    assert rights.refusal(row(permission=json.dumps(STATEMENT)), "train") == ""
    assert rights.refusal(row(permission=json.dumps(STATEMENT)), "publish-images")
    assert rights.refusal(row(permission="they said it is fine"), "train")


def test_the_gate_reads_the_one_table_of_terms():
    assert rights.TERMS is terms.TERMS and Permission is terms.Permission
    commons = row(provider="wikimedia")
    assert "nothing is known" in rights.refusal(commons, "train")
    assert rights.refusal({**commons, "license": "CC-BY-SA-3.0-de"}, "publish-images") == ""
    listed = row(provider="urls", license="CC0-1.0", file_url="https://images.unsplash.com/photo-1")
    assert "Unsplash" in rights.refusal(listed, "train")


def test_a_build_stops_at_unknown_rights_and_leaves_nothing_behind(maker, releases):
    maker.add(maker.photo(), maker.photo(provider="folder", license=None), maker.photo(provider="pexels"))
    with pytest.raises(RightsError, match="2 portraits may not be put to the use 'train'") as caught:
        build(maker.workspace, releases, "1.0.0", options())
    assert "Pexels bars" in str(caught.value) and "--permission FILE" in str(caught.value)
    assert not releases.exists()


def test_a_build_of_what_is_permitted_leaves_the_rest_out_and_counts_it(maker, releases):
    maker.add(maker.photo(), maker.photo(provider="folder", license=None), maker.photo(provider="pexels"))
    made = build(maker.workspace, releases, "1.0.0", options(only_permitted=True))
    assert made.left_out["not_permitted"] == 2
    assert len(reader.open(releases / "1.0.0").index) == 1


def test_a_stated_permission_lets_it_run_and_is_recorded(maker, releases, tmp_path):
    maker.add(maker.photo(provider="folder", license=None))
    path = tmp_path / "permission.json"
    path.write_text(json.dumps(STATEMENT))
    build(maker.workspace, releases, "1.0.0", options(permissions=(Permission.load(path),)))
    manifest = reader.open(releases / "1.0.0").manifest
    assert [one["reference"] for one in manifest.about["permissions"]] == ["letter 12"]
    assert "letter 12" in (releases / "1.0.0/LICENSES.md").read_text()


def test_samples_that_are_for_trials_do_not_stop_a_build_and_are_counted(maker, releases):
    free = {"provider": "samples", "license": "CC0-1.0"}
    maker.add(maker.photo(**free), maker.photo(provider="samples", license=None), maker.photo(**free))
    made = build(maker.workspace, releases, "1.0.0", options())
    assert made.left_out == {"sample_for_trials_only": 1} and made.manifest.rows == 2


def test_an_unstated_folder_is_named_with_the_command_for_it(maker, releases):
    maker.add(maker.photo(provider="folder", license=None, source="my photos"), maker.photo())
    with pytest.raises(RightsError, match="phq rights init 'my photos'"):
        build(maker.workspace, releases, "1.0.0", options())


def test_consent_goes_to_rows_card_and_datasheet(maker, releases):
    said = ["yes", "yes", "unknown", None]
    ids = maker.add(*(maker.photo(consent=one) for one in said), maker.photo(provider="synthetic"))
    folder = releases / "1.0.0"
    made = build(maker.workspace, releases, "1.0.0", options())
    rows = reader.open(folder).all()
    found = {
        row["portrait_id"]: row["consent"] for row in rows.metadata(["portrait_id", "consent"]).to_pylist()
    }
    assert [found[one] for one in ids] == [*said, None]
    assert made.manifest.about["counts"]["consent"] == {"yes": 2, "unknown": 2, "renders": 1}
    for name in ("README.md", "DATASHEET.md"):
        text = (folder / name).read_text()
        assert "2 show people who agreed; of 2 nobody recorded" in text and "1 are renders" in text
        assert "no screen for minors was run" in text


def test_people_who_do_not_agree_stop_a_build_whatever_was_permitted(maker, releases):
    given = Permission("Rosa", ("train",), DAY, "letter")
    maker.add(maker.photo(consent="no"), maker.photo())
    with pytest.raises(RightsError, match="people shown do not agree"):
        build(maker.workspace, releases, "1.0.0", options(permissions=(given,)))
    made = build(maker.workspace, releases, "1.0.0", options(only_permitted=True))
    assert made.left_out == {"not_permitted": 1}
