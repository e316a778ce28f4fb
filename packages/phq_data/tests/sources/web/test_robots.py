import json

import pytest
from web_server import Answer

from phq_data.sources.web import RefusedError, TransientError
from phq_data.sources.web.robots import RobotsPolicy, opted_out, parse_tdmrep

NOTHING: dict = {}


@pytest.fixture
def robots(web):
    return RobotsPolicy(web)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("noai", "noai"), ("noimageai", "noimageai"), ("index, NoAI", "noai"), ("noindex", "noindex"),
        ("none", "none"), ("noml", "noml"), ("nofollow", ""), ("all", ""), ("", ""),
        ("otherbot: noai", ""), ("otherbot: noai, noindex", ""), ("phq-data: noai", "noai"),
        ("PHQ-Data: noimageai", "noimageai"), ("unavailable_after: 25 Jun 2030 15:00:00 PST", ""),
        ("max-image-preview:large, noai", "noai"), ("max-image-preview:large", ""),
        ("otherbot: nofollow, phq-data: noai", "noai"),
    ],
)  # fmt: skip
def test_x_robots_tag_words_for_all_for_others_and_for_us(line, word):
    assert opted_out(line) == word


def test_robots_txt_is_asked_once_a_host_and_kept(site, robots):
    site.pages["/robots.txt"] = Answer(
        b"User-agent: *\nDisallow: /all\n\nUser-agent: phq-data\nDisallow: /ours\nAllow: /ours/open\n"
    )
    assert "allows" in robots.ask(f"{site.url}/all/photo.jpg")["robots"]  # our own group counts alone
    robots.ask(f"{site.url}/ours/open/a.jpg")
    with pytest.raises(RefusedError) as caught:
        robots.ask(f"{site.url}/ours/a.jpg")
    assert caught.value.reason == "robots"
    assert site.counts()["/robots.txt"] == 1


def test_no_robots_txt_is_yes_and_one_that_cannot_be_had_is_not_now(site, robots, web):
    assert robots.ask(f"{site.url}/a")["robots"] == "no robots.txt (404)"
    broken = RobotsPolicy(web)
    site.pages["/robots.txt"] = Answer(b"", 503)
    with pytest.raises(TransientError) as caught:
        broken.ask(f"{site.url}/a")
    assert caught.value.reason == "RobotsUnreachable"
    site.pages["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /", 200)
    with pytest.raises(RefusedError):
        broken.ask(f"{site.url}/a")


def test_a_huge_robots_txt_is_read_to_the_limit_only(site, robots):
    site.pages["/robots.txt"] = b"User-agent: *\nDisallow: /no\n" + b"# filler\n" * 300_000
    with pytest.raises(RefusedError):
        robots.ask(f"{site.url}/no/a")


def test_a_crawl_delay_is_kept(site, robots, web, clock):
    site.pages["/robots.txt"] = Answer(b"User-agent: *\nCrawl-delay: 7\n")
    site.pages["/a"] = b"x"
    robots.ask(f"{site.url}/a")
    web.document(f"{site.url}/a")
    began = clock.now()
    web.document(f"{site.url}/a")
    assert 7 <= clock.now() - began <= 8


def test_tdm_reservations_by_file_and_by_header_which_goes_first(site, robots):
    rules = [
        {"location": "/free/*", "tdm-reservation": 0},
        {"location": "/*.jpg$", "tdm-reservation": 1, "tdm-policy": "https://example.org/policy"},
        {"location": "/", "tdm-reservation": 0},
    ]
    site.pages["/.well-known/tdmrep.json"] = Answer(json.dumps(rules).encode())
    robots.ask(f"{site.url}/")
    assert robots.heed(f"{site.url}/free/a.jpg", NOTHING, [])["tdm"] == "tdmrep.json: not reserved"
    robots.heed(f"{site.url}/a.png", NOTHING, [])
    robots.heed(f"{site.url}/a.jpg?size=2", NOTHING, [])  # `$` is the end
    with pytest.raises(RefusedError, match=r"tdmrep\.json"):
        robots.heed(f"{site.url}/b/a.jpg", NOTHING, [])
    assert robots.heed(f"{site.url}/a.jpg", {"tdm-reservation": "0"}, [])["tdm"] == "header: not reserved"
    with pytest.raises(RefusedError, match="header"):
        robots.heed(f"{site.url}/free/a.jpg", {"tdm-reservation": "1"}, [])


def test_what_was_seen_is_told(site, robots):
    seen = robots.ask(f"{site.url}/a") | robots.heed(f"{site.url}/a", NOTHING, ["nofollow", "otherbot: noai"])
    assert seen == {
        "robots": "no robots.txt (404)", "tdm": "no tdmrep.json (404)",
        "x_robots_tag": "nofollow; otherbot: noai",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"{}", b"[1, 2]", b"<html>", b'[{"location": 5}]'])
def test_a_tdmrep_that_is_none_has_no_rules(body):
    assert parse_tdmrep(body) == ()


def test_a_deeply_nested_tdmrep_is_none():
    assert parse_tdmrep(b"[" * 100_000 + b"]" * 100_000) == ()
