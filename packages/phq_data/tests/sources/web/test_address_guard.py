import pytest
from web_server import Answer, FakeClock

from phq_data.sources.web import FetchError, TransientError
from phq_data.sources.web.address_guard import AddressGuard
from phq_data.sources.web.http import Web


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def guard(**names):
    def resolve(host, port):
        if host not in names:
            raise OSError("no such name")
        return names[host].split()

    return AddressGuard(names=resolve)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a", "http://10.0.0.1/a", "http://192.168.1.1/", "http://169.254.169.254/latest",
        "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/", "http://127.1/", "http://0x7f.1/",
        "http://2130706433/", "http://[fd00::1]/", "http://224.0.0.1/", "http://100.64.0.1/",
        "http://inside/", "http://both/",
    ],
)  # fmt: skip
def test_private_addresses_are_not_asked_in_whatever_form_they_are_written(url):
    with pytest.raises(FetchError) as caught:
        guard(inside="10.1.2.3", both="93.184.216.34 127.0.0.1").check(url)
    assert caught.value.reason == "private_host"


def test_public_ones_are_and_a_name_that_is_not_found_may_be_found_later():
    known = guard(outside="93.184.216.34 2606:2800:220:1::1")
    assert known.check("https://outside/a.jpg") == "https://outside/a.jpg"
    known.check("http://8.8.8.8/")
    with pytest.raises(TransientError):
        known.check("http://nowhere/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://outside/a",
        "file:///etc/passwd",
        "http:///a",
        "http://me:pass@outside/",
        "http://[x/",
        "data:,x",
    ],
)
def test_other_schemes_and_passwords_are_not_asked(url):
    with pytest.raises(FetchError) as caught:
        guard(outside="93.184.216.34").check(url)
    assert caught.value.reason == "bad_url" and "pass" not in str(caught.value).replace("password", "")


def test_a_redirect_into_the_private_network_and_a_name_that_moves_there_are_stopped(site):
    """The server pretends to be public first; what really answers is looked at again."""
    port = site.url.rpartition(":")[2]
    site.pages["/photo"] = b"x"
    moving = AddressGuard(names=lambda host, port: ["93.184.216.34"])
    web = Web(clock=FakeClock(), guard=moving)
    with pytest.raises(FetchError) as caught, web.open(f"http://localhost:{port}/photo") as reply:
        list(reply.chunks(100))
    assert caught.value.reason == "private_host"

    class First(AddressGuard):
        """Lets the first address pass, as if it were public."""

        def check(self, url):
            return url if url.endswith("/start") else super().check(url)

        def check_peer(self, url, stream):
            pass

    site.pages["/start"] = Answer(b"", 302, {"Location": "http://169.254.169.254/latest/meta-data"})
    with pytest.raises(FetchError) as caught, Web(clock=FakeClock(), guard=First()).open(f"{site.url}/start"):
        pass
    assert caught.value.reason == "private_host"


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/x.jpg", f"http://{'a' * 300}/x.jpg", f"http://{'a.' * 150}b/x.jpg", "http://xn--zz/x.jpg",
        "http://\ud800/x.jpg", "http://outside/\ud800.jpg", "http://outside/a\x01b", "http://[::1",
    ],
)  # fmt: skip
def test_what_nobody_could_send_is_no_address(url, allow):
    asked = AddressGuard(allow, names=lambda host, port: ["93.184.216.34"])
    with pytest.raises(FetchError) as caught:
        asked.check(url)
    assert (caught.value.reason, caught.value.transient) == ("bad_url", False)


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.0.1]/", "http://meta/"],
)
def test_addresses_of_the_link_are_never_asked_whatever_is_allowed(url):
    asked = AddressGuard(True, names=lambda host, port: ["169.254.169.254"])
    with pytest.raises(FetchError) as caught:
        asked.check(url)
    assert caught.value.reason == "private_host"
    assert AddressGuard(True).check("http://127.0.0.1/a") and AddressGuard(True).check("http://10.0.0.1/a")


@pytest.mark.parametrize("location", ["http://[::1", "/a\x01b.jpg", "http://a..b/"])
def test_a_redirect_to_no_address_is_final(site, web, location):
    site.pages["/a"] = Answer(b"", 302, headers={"Location": location})
    with pytest.raises(FetchError) as caught, web.open(f"{site.url}/a"):
        pass
    assert (caught.value.reason, caught.value.transient) == ("bad_url", False)
