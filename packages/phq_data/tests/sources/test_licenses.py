import pytest

from phq_data.sources.licenses import is_free, license_url, normalise

FREE = {
    "CC0-1.0": [
        "CC0", "cc0", "CC0 1.0 Universal", "cc-zero", "Creative Commons Zero, Public Domain Dedication",
        "https://creativecommons.org/publicdomain/zero/1.0/deed.en",
        '<a href="http://creativecommons.org/publicdomain/zero/1.0/">CC0</a>', "CC0 1.0",
    ],
    "PDM-1.0": [
        "Public Domain Mark 1.0", "pdm 1.0", "https://creativecommons.org/publicdomain/mark/1.0/",
        "PDM-owner",
    ],
    "PD": ["Public domain", "PD", "PD-self", "pd-old-70", "PD-USGov-NASA", "<b>Public&nbsp;domain</b>"],
    "CC-BY-4.0": [
        "CC BY 4.0", "cc-by-4.0", "CC-BY-4.0", "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0", "http://www.creativecommons.org/licenses/by/4.0/legalcode",
        "CC BY 4.0,3.0,2.5", "Attribution 4.0 International (CC BY 4.0)", "CC  BY\n4.0",
    ],
    "CC-BY-SA-4.0": [
        "CC BY-SA 4.0", "cc-by-sa-4.0", "Attribution-ShareAlike 4.0 International", "CC BY SA 4.0",
        "Creative Commons Attribution-Share Alike 4.0", "CC BY-SA 4.0 or later", "CC BY-SA 2.0, 4.0",
    ],
    "CC-BY-SA-3.0": ["cc-by-sa-3.0-migrated", "CC BY-SA 3.0 Unported", "CC-BY-SA-3.0"],
    "CC-BY-SA-3.0-de": [
        "CC BY-SA 3.0 de", "CC-BY-SA-3.0-DE", "https://creativecommons.org/licenses/by-sa/3.0/de/deed.en",
    ],
    "CC-BY-2.0-uk": ["cc-by-2.0-uk", "https://creativecommons.org/licenses/by/2.0/uk/"],
    "CC-BY-SA": ["cc-by-sa-all", "CC BY-SA"],
}  # fmt: skip

REFUSED = {
    "license_nc": [
        "CC BY-NC 4.0", "CC-BY-NC-SA-3.0", "Attribution-NonCommercial 2.0 Generic", "cc by nc",
        "https://creativecommons.org/licenses/by-nc/4.0/", "non-commercial use only", "CC BY-NC-ND 4.0",
    ],
    "license_nd": [
        "CC BY-ND 4.0", "Attribution-NoDerivs 2.0 Generic", "https://creativecommons.org/licenses/by-nd/2.0/",
    ],
    "license_nonfree": ["All rights reserved", "Fair use", "© 2020 Somebody"],
    "license_unclear": ["GFDL", "see description", "CC", "custom", "by the author"],
    "license_unknown": ["", "  ", "<br/>"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FREE.items() for text in texts])
def test_spellings_of_free_licenses(name, text):
    found = normalise(text)
    assert (found.name, found.free) == (name, True)
    assert is_free(found.name)


@pytest.mark.parametrize(
    ("reason", "text"), [(reason, text) for reason, texts in REFUSED.items() for text in texts]
)
def test_everything_else_is_refused_with_its_reason(reason, text):
    found = normalise(text)
    assert (found.reason, found.free, found.name) == (reason, False, None)
    assert found.message


def test_several_statements_must_agree_and_the_fullest_wins():
    assert normalise(
        "https://creativecommons.org/licenses/by-sa/3.0/de/", "CC BY-SA 3.0", "cc-by-sa"
    ).name == ("CC-BY-SA-3.0-de")
    assert normalise("CC BY 4.0", "CC BY-SA 4.0").reason == "license_unclear"
    assert normalise("CC BY 4.0", "CC BY 2.0").reason == "license_unclear"
    assert normalise("Public domain", "pdm 1.0").name == "PDM-1.0"
    assert normalise("CC0", "Public domain").name == "CC0-1.0"


def test_one_statement_against_decides_and_an_unknown_one_beside_a_free_one_does_not():
    assert normalise("CC BY-SA 3.0", "CC BY-NC-SA 3.0").reason == "license_nc"
    assert normalise("GFDL 1.2", "CC BY-SA 3.0").name == "CC-BY-SA-3.0"
    assert normalise(None, "", "CC0").name == "CC0-1.0"


def test_a_free_license_has_a_page():
    assert license_url("CC-BY-SA-3.0-de") == "https://creativecommons.org/licenses/by-sa/3.0/de/"
    assert license_url("CC0-1.0") == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert license_url("PD") is license_url(None) is license_url("CC-BY-NC-4.0") is None
