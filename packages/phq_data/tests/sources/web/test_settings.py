import pytest

from phq_data.sources import SourceError
from phq_data.sources.web import settings


@pytest.fixture
def file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "phq" / "settings.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return {"XDG_CONFIG_HOME": str(tmp_path)}

    return write


def test_the_environment_goes_before_the_file(file):
    environ = file('contact = "file@example.org"\npexels_api_key = "fromfile"\nunsplash_access_key = "u"\n')
    found = settings.load({**environ, "PEXELS_API_KEY": "fromenv"})
    assert found.contact == "file@example.org"
    assert found.key("pexels").reveal() == "fromenv" and found.key("unsplash").reveal() == "u"
    assert "fromenv" not in repr(found) + str(found)


def test_nothing_at_all_is_fine_until_something_is_needed(tmp_path):
    found = settings.load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert not found.allow_private
    with pytest.raises(SourceError, match="PHQ_CONTACT"):
        found.require_contact()
    with pytest.raises(SourceError, match="PEXELS_API_KEY"):
        found.key("pexels")
    with pytest.raises(SourceError, match="no settings file"):
        settings.load({"PHQ_SETTINGS": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_keys_that_others_can_read_are_refused(file, mode):
    with pytest.raises(SourceError, match="chmod 600"):
        settings.load(file('pexels_api_key = "secret"', mode))
    assert settings.load(file('contact = "a@example.org"', mode)).contact  # no key, no harm


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('pexels_api_key = "topsecret', "TOML"),
        ('pexel_key = "topsecret"', "did you mean 'pexels_api_key'"),
        ('[api]\nflickr = "x"', "flickr"),
        ('contact = "a\\nX-Evil: 1"', "one line"),
    ],
)
def test_a_file_that_is_not_understood_is_told_without_its_secrets(file, text, word):
    with pytest.raises(SourceError, match=word) as caught:
        settings.load(file(text))
    assert "topsecret" not in str(caught.value) and caught.value.__cause__ is None


def test_other_addresses_of_interfaces(file):
    environ = file('[api]\nwikimedia = "https://wiki.example.org/w/api.php"\n')
    found = settings.load({**environ, "PHQ_PEXELS_API": "http://localhost:1", "PHQ_ALLOW_PRIVATE_HOSTS": "1"})
    assert found.api == {"wikimedia": "https://wiki.example.org/w/api.php", "pexels": "http://localhost:1"}
    assert found.allow_private


@pytest.mark.parametrize("key", ["topsecret\nmore", "top\x00secret", "topsecret\x7f!", "topsecr\xe9t"])
def test_a_key_that_no_header_can_hold_is_refused_by_name_and_not_shown(file, key):
    with pytest.raises(SourceError, match="PEXELS_API_KEY") as caught:
        settings.load({**file(""), "PEXELS_API_KEY": key})
    assert "secr" not in str(caught.value) and "more" not in str(caught.value)
    assert settings.load({**file(""), "PEXELS_API_KEY": " good \n"}).key("pexels").reveal() == "good"
