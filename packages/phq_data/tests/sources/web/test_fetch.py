import hashlib
import io
import tracemalloc

import pytest
from PIL import Image
from web_server import Answer, jpeg, serving

from phq_data.sources.web import FetchError, PermanentError, RefusedError, TransientError
from phq_data.sources.web.fetch import Fetcher
from phq_data.sources.web.robots import RobotsPolicy


@pytest.fixture
def fetcher(web, tmp_path):
    return Fetcher(web, RobotsPolicy(web), tmp_path / "photos", max_bytes=1_000_000)


@pytest.fixture
def left(tmp_path):
    """What lies in the folder."""
    return lambda: list((tmp_path / "photos").iterdir()) if (tmp_path / "photos").exists() else []


def test_a_photo_comes_with_its_hash_its_kind_and_what_the_site_said(site, fetcher):
    data = jpeg(1)
    headers = {"ETag": '"v1"', "Last-Modified": "Tue, 01 Sep 2026 10:00:00 GMT"}
    site.pages["/a.jpg"] = Answer(data, headers=headers)
    found = fetcher.fetch(f"{site.url}/a.jpg", sha1=hashlib.sha1(data).hexdigest())
    assert found.path.read_bytes() == data
    assert (found.sha256, found.kind, found.bytes) == (hashlib.sha256(data).hexdigest(), "JPEG", len(data))
    assert (found.etag, found.modified) == ('"v1"', headers["Last-Modified"])
    assert set(found.seen) == {"robots", "tdm", "x_robots_tag"}


def test_an_unchanged_photo_is_not_sent_again(site, fetcher):
    def page(request):
        if request.headers["If-None-Match"] == '"v1"' and request.headers["If-Modified-Since"] == "date":
            return Answer(b"", 304)
        return Answer(jpeg(1), headers={"ETag": '"v1"'})

    site.pages["/a.jpg"] = page
    assert fetcher.fetch(f"{site.url}/a.jpg", etag='"v1"', modified="date").path is None
    assert fetcher.fetch(f"{site.url}/a.jpg", etag='"v0"', modified="date").path is not None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"<html>" * 50, headers={"Content-Type": "image/jpeg"}), "not_an_image"),
        (Answer(b""), "empty"),
        (Answer(b"tiny"), "not_an_image"),
        (Answer(b"\xff\xd8\xff" + bytes(2_000_000)), "too_many_bytes"),
        (Answer(b"\xff\xd8\xff" + bytes(2_000_000), length=False), "too_many_bytes"),
        (Answer(jpeg(1)[:-2000]), "truncated"),  # with its length: the server has it so
        (Answer(b"", 404), "not_found"),
        (Answer(jpeg(1), headers={"X-Robots-Tag": "nofollow\nnoai"}), "opt_out"),
        (Answer(jpeg(1), headers={"TDM-Reservation": "1"}), "opt_out"),
    ],
)
def test_what_is_no_photo_for_us_leaves_nothing_and_is_asked_once(site, fetcher, left, answer, reason):
    site.pages["/a.jpg"] = answer
    with pytest.raises(PermanentError) as caught:
        fetcher.fetch(f"{site.url}/a.jpg")
    assert caught.value.reason == reason and not left()
    assert site.counts()["/a.jpg"] == 1


def test_a_broken_transfer_is_tried_again_with_or_without_a_length(site, fetcher, left):
    data = jpeg(1)
    for length in (True, False):
        site.pages["/a.jpg"] = [Answer(data, cut=3000, length=length), Answer(data, length=length)]
        assert fetcher.fetch(f"{site.url}/a.jpg").bytes == len(data)
    assert site.counts()["/a.jpg"] == 4 and len(left()) == 2


def test_bytes_other_than_the_search_told_of_may_be_a_race(site, fetcher, left):
    site.pages["/a.jpg"] = jpeg(1)
    with pytest.raises(TransientError) as caught:
        fetcher.fetch(f"{site.url}/a.jpg", sha1="0" * 40)
    assert caught.value.reason == "Changed" and not left()


def test_the_robots_of_a_host_that_a_redirect_leads_to_are_asked_too(site, fetcher):
    with serving() as other:
        other.pages = {"/robots.txt": Answer(b"User-agent: *\nDisallow: /"), "/a.jpg": jpeg(1)}
        site.pages["/a.jpg"] = Answer(b"", 302, {"Location": f"{other.url}/a.jpg"})
        with pytest.raises(RefusedError) as caught:
            fetcher.fetch(f"{site.url}/a.jpg")
        assert caught.value.reason == "robots" and other.asked("/a.jpg") == []


def test_a_trickle_is_given_up(site, fetcher, clock):
    """By our clock a minute passes with every piece."""
    site.pages["/a.jpg"] = Answer(jpeg(1, 800), headers={})
    real = clock.now
    clock.now = lambda: clock.sleep(100.0) or real()
    with pytest.raises(FetchError) as caught:
        fetcher.fetch(f"{site.url}/a.jpg")
    assert caught.value.reason == "Timeout"


def test_a_large_photo_is_never_whole_in_memory(site, web, tmp_path):
    data = jpeg(1)
    body = data[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 300 + data[2:]  # with 300 comments inside
    site.pages["/a.jpg"] = body
    fetcher = Fetcher(web, RobotsPolicy(web), tmp_path, max_bytes=100_000_000)
    fetcher.fetch(f"{site.url}/a.jpg")
    tracemalloc.start()
    found = fetcher.fetch(f"{site.url}/a.jpg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.bytes == len(body) > 19_000_000 and peak < 4_000_000


def test_a_full_disk_is_told_in_a_sentence(site, web, tmp_path, monkeypatch):
    import errno
    import os

    from phq_data.workspace import WorkspaceError

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    site.pages["/a.jpg"] = jpeg(1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match=r"the disk is full.*run the same"):
        Fetcher(web, RobotsPolicy(web), tmp_path / "photos", 1 << 20).fetch(f"{site.url}/a.jpg")
    assert not list((tmp_path / "photos").iterdir())


def test_a_photo_that_reserves_data_mining_in_itself_leaves_nothing(site, fetcher, left):
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:tdm="http://www.w3.org/ns/tdmrep/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<rdf:Description {}><dc:rights>(c) Ada</dc:rights></rdf:Description></rdf:RDF>"
    )
    for name, said in (("no", 'tdm:reservation="1"'), ("yes", "")):
        stream = io.BytesIO()
        Image.new("RGB", (64, 64)).save(stream, "JPEG", xmp=packet.format(said).encode())
        site.pages[f"/{name}.jpg"] = Answer(stream.getvalue())
    with pytest.raises(RefusedError, match="tdm:reservation") as caught:
        fetcher.fetch(f"{site.url}/no.jpg")
    assert caught.value.reason == "opt_out" and not left()
    assert fetcher.fetch(f"{site.url}/yes.jpg").seen["photo"] == '{"copyright": "(c) Ada"}'
