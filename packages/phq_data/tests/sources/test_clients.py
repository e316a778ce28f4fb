"""The providers' clients against a server that answers in their documented formats."""

import csv
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from web_server import Answer, Commons, FakeClock, serving

from phq_data.sources import SourceError, openverse, pexels, unsplash, wikimedia
from phq_data.sources.unsplash_lite import UnsplashLite
from phq_data.sources.urls import UrlList
from phq_data.sources.web import TransientError
from phq_data.sources.web.http import Secret, Web


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture
def clock():
    return FakeClock()


def client_web(clock, policies=None, **options):
    return Web("ada@example.org", clock=clock, allow_private=True, policies=policies, seed=1, **options)


def every_page(source, query):
    """All candidates of a query, and the cursors on the way."""
    cursor, found, cursors = "", [], []
    while cursor is not None:
        page = source.search(query, cursor)
        found += page.candidates
        cursor = page.next
        cursors.append(cursor)
    return found, cursors


# ---- Wikimedia Commons -----------------------------------------------------------------------------------


def test_commons_asks_as_its_etiquette_says_and_follows_continue(site, clock):
    commons = Commons(site, 12)
    found, cursors = every_page(wikimedia.Wikimedia(client_web(clock), commons.api_url), "portrait")
    assert [candidate.uri for candidate in found] == [f"wikimedia:{i}" for i in range(12)]  # by rank
    assert len(cursors) == 3 and json.loads(cursors[0])["gsroffset"] == 5
    first = site.requests[0].query
    assert first["gsrnamespace"] == "6" and first["gsrsearch"] == "portrait filetype:bitmap"
    assert first["maxlag"] == "5" and set(first["iiprop"].split("|")) >= {"url", "sha1", "extmetadata"}
    assert first["formatversion"] == "2" and "ada@example.org" in site.requests[0].headers["User-Agent"]
    assert site.requests[1].query["continue"] == "gsroffset||"


def test_commons_reads_html_and_leaves_other_formats(site, clock):
    commons = Commons(site, 3)
    page = commons.page
    drawings = {1: "image/svg+xml", 2: "application/pdf"}

    def changed(index):
        found = page(index)
        found["imageinfo"][0]["mime"] = drawings.get(index, "image/jpeg")
        found["imageinfo"][0]["extmetadata"]["LicenseUrl"] = {
            "value": "//creativecommons.org/licenses/by-sa/4.0/"
        }
        return found

    commons.page = changed
    (candidate,) = wikimedia.Wikimedia(client_web(clock), commons.api_url).search("x", "").candidates
    assert candidate.provenance.author == "Ada Example" and candidate.provenance.license == "CC-BY-SA-4.0"
    assert candidate.provenance.author_url.endswith("/wiki/User:Ada_Example")
    assert candidate.sha1 and candidate.size == len(commons.photos[0])


def test_commons_that_is_busy_is_asked_again_when_it_says(site, clock):
    commons = Commons(site, 1)
    busy = {"error": {"code": "maxlag", "info": "Waiting for a database server: 6 seconds lagged."}}
    lagged = Answer(json.dumps(busy).encode(), headers={"Retry-After": "5"})
    limited = {"error": {"code": "ratelimited", "info": "You've exceeded your rate limit."}}
    site.pages["/w/api.php"] = answers = [lagged, limited, Answer(b"<html>overloaded</html>")]
    began = clock.now()

    def api(request):
        return answers.pop(0) if answers else commons.api(request)

    site.pages["/w/api.php"] = api
    source = wikimedia.Wikimedia(client_web(clock), commons.api_url)
    assert len(source.search("x", "").candidates) == 1 and clock.now() - began >= 5
    site.pages["/w/api.php"] = {"error": {"code": "badvalue", "info": "Unrecognized value"}}
    with pytest.raises(SourceError, match="Unrecognized value"):
        source.search("x", "")


def test_commons_is_asked_one_at_a_time_and_its_photos_over_two_connections():
    policies = wikimedia.policies()
    assert policies["commons.wikimedia.org"].connections == 1
    photos = policies["upload.wikimedia.org"]
    assert photos.connections == 2 and photos.bytes_per_second == 25e6 / 8


# ---- Pexels ----------------------------------------------------------------------------------------------


def pexels_api(site, count, per_page=pexels.PER_PAGE):
    def api(request):
        if request.headers["Authorization"] != "key1":
            return Answer(b'{"code": "Unauthorized"}', 401)
        page = int(request.query["page"])
        chosen = range((page - 1) * per_page, min(page * per_page, count))
        answer = {
            "page": page, "per_page": per_page, "total_results": count,
            "photos": [
                {
                    "id": index, "width": 4000, "height": 6000, "url": f"https://www.pexels.com/photo/{index}/",
                    "photographer": "Ada", "photographer_url": "https://www.pexels.com/@ada",
                    "photographer_id": 7, "avg_color": "#333333", "alt": "A portrait", "liked": False,
                    "src": {"original": f"{site.url}/photos/{index}.jpeg", "large2x": "", "tiny": ""},
                }
                for index in chosen
            ],
        }  # fmt: skip
        if page * per_page < count:
            answer["next_page"] = f"{site.url}/v1/search?page={page + 1}"
        return Answer(json.dumps(answer).encode(), headers={"X-Ratelimit-Remaining": "19000"})

    site.pages["/v1/search"] = api


def test_pexels_pages_and_provenance(site, clock):
    pexels_api(site, 170)
    found, cursors = every_page(pexels.Pexels(client_web(clock), Secret("key1"), site.url), "portrait")
    assert len(found) == 170 and cursors == ["2", "3", None]
    assert site.requests[0].query == {"query": "portrait", "per_page": "80", "page": "1"}
    one = found[3].provenance
    assert (one.author, one.license, one.page_url) == ("Ada", "Pexels", "https://www.pexels.com/photo/3/")


def test_pexels_hourly_limit_is_kept_by_ourselves(site, clock):
    pexels_api(site, 80 * 300)
    web = client_web(clock, pexels.policies(site.url))
    source = pexels.Pexels(web, Secret("key1"), site.url)
    began = clock.now()
    for number in range(201):
        source.search("portrait", str(number + 1))
    assert 3600 <= clock.now() - began <= 3700


def test_pexels_that_says_too_many_without_headers_is_asked_later(site, clock):
    pexels_api(site, 3)
    api, left = site.pages["/v1/search"], [2]

    def busy(request):
        left[0] -= 1
        return Answer(b"", 429) if left[0] >= 0 else api(request)

    site.pages["/v1/search"] = busy
    assert len(pexels.Pexels(client_web(clock), Secret("key1"), site.url).search("x", "").candidates) == 3
    assert clock.slept >= 1.5


def test_a_wrong_key_is_told_without_it(site, clock):
    pexels_api(site, 3)
    with pytest.raises(SourceError, match="PEXELS_API_KEY") as caught:
        pexels.Pexels(client_web(clock), Secret("wrongkey"), site.url).search("x", "")
    assert "wrongkey" not in str(caught.value)


# ---- Unsplash --------------------------------------------------------------------------------------------


def unsplash_api(site, count):
    def photo(index):
        return {
            "id": f"p{index}", "width": 4000, "height": 6000, "description": None, "alt_description": "woman",
            "urls": {"raw": "", "full": f"{site.url}/photos/{index}", "regular": ""},
            "links": {
                "html": f"https://unsplash.com/photos/p{index}",
                "download_location": f"{site.url}/photos/p{index}/download?ixid=1",
            },
            "user": {"name": "Ada", "username": "ada", "links": {"html": "https://unsplash.com/@ada"}},
        }  # fmt: skip

    def search(request):
        page, size = int(request.query["page"]), int(request.query["per_page"])
        chosen = range((page - 1) * size, min(page * size, count))
        return {"total": count, "total_pages": -(-count // size), "results": [photo(i) for i in chosen]}

    site.pages["/search/photos"] = search


def test_unsplash_pages_attribution_and_the_call_on_download(site, clock):
    unsplash_api(site, 70)
    source = unsplash.Unsplash(client_web(clock), Secret("key2"), site.url)
    found, cursors = every_page(source, "portrait")
    assert len(found) == 70 and cursors == ["2", "3", None]
    assert site.requests[0].headers["Authorization"] == "Client-ID key2"
    assert site.requests[0].query["per_page"] == "30"
    one = found[4].provenance
    assert one.author_url == "https://unsplash.com/@ada?utm_source=phq&utm_medium=referral"
    assert one.page_url.endswith("p4?utm_source=phq&utm_medium=referral") and one.license == "Unsplash"
    site.pages["/photos/p4/download"] = {"url": "..."}
    source.before_download(found[4])
    told = site.requests[-1]
    assert told.path == "/photos/p4/download" and told.headers["Authorization"] == "Client-ID key2"


def test_unsplash_keeps_fifty_an_hour_and_stops_at_none_left(site, clock):
    unsplash_api(site, 10)
    source = unsplash.Unsplash(client_web(clock, unsplash.policies(site.url)), Secret("k"), site.url)
    search = site.pages["/search/photos"]
    site.pages["/search/photos"] = lambda request: Answer(
        json.dumps(search(request)).encode(),
        headers={"X-Ratelimit-Limit": "50", "X-Ratelimit-Remaining": "0"},
    )
    source.search("x", "1")
    began = clock.now()
    source.search("x", "1")
    assert clock.now() - began >= 3600


def test_a_better_unsplash_key_says_so_in_its_answers(site, clock):
    unsplash_api(site, 10)
    source = unsplash.Unsplash(client_web(clock, unsplash.policies(site.url)), Secret("k"), site.url)
    search = site.pages["/search/photos"]
    site.pages["/search/photos"] = lambda request: Answer(
        json.dumps(search(request)).encode(),
        headers={"X-Ratelimit-Limit": "5000", "X-Ratelimit-Remaining": "9"},
    )
    began = clock.now()
    for _ in range(60):
        source.search("x", "1")
    assert clock.now() == began


def test_unsplash_lite_finds_by_keywords_and_descriptions_without_any_request(tmp_path):
    columns = [
        "photo_id", "photo_url", "photo_image_url", "photo_description", "photographer_username",
        "photographer_first_name", "photographer_last_name", "ai_description",
    ]  # fmt: skip
    rows = [
        ["a", "https://unsplash.com/photos/a", "https://images.unsplash.com/a", 'a "quoted"\ntext', "ada",
         "Ada", "Example", "woman standing from behind"],
        ["b", "https://unsplash.com/photos/b", "https://images.unsplash.com/b", "", "bo", "", "", "a hill"],
        ["c", "https://unsplash.com/photos/c", "https://images.unsplash.com/c", "", "bo", "", "", ""],
    ]  # fmt: skip
    with (tmp_path / "photos.tsv000").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([columns, *rows])
    with (tmp_path / "keywords.tsv000").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(
            [["photo_id", "keyword"], ["c", "Woman"], ["c", "behind"], ["b", "snow"], ["gone", "woman"]]
        )
    source = UnsplashLite(tmp_path)
    found = source.search("woman from behind", "").candidates
    assert [candidate.uri for candidate in found] == ["unsplash:a", "unsplash:c"]
    assert found[0].provenance.author == "Ada Example" and found[1].provenance.author == "bo"
    assert found[0].provenance.license == "Unsplash-Lite"
    assert source.search("nobody", "").candidates == ()
    with pytest.raises(SourceError, match=r"photos\.tsv"):
        UnsplashLite(tmp_path / "elsewhere")


# ---- Openverse -------------------------------------------------------------------------------------------


def openverse_api(site, results, pages=1):
    def api(request):
        if int(request.query["page_size"]) > 20 and not request.headers["Authorization"]:
            return Answer(b"", 401)
        page = int(request.query["page"])
        return {
            "result_count": 999, "page_count": pages, "page_size": 20, "page": page,
            "results": [{**result, "id": f"{result['id']}-{page}"} for result in results],
        }  # fmt: skip

    site.pages["/v1/images/"] = api


def result(**changes):
    return {
        "id": "o1", "title": "A portrait", "url": "https://live.example.org/1.jpg",
        "foreign_landing_url": "https://www.flickr.com/photos/1", "creator": "Bo", "creator_url": None,
        "license": "by-sa", "license_version": "2.0",
        "license_url": "https://creativecommons.org/licenses/by-sa/2.0/", "provider": "flickr",
        "source": "flickr", **changes,
    }  # fmt: skip


def test_openverse_pages_to_its_depth_with_its_licenses(site, clock):
    openverse_api(site, [result()], pages=40)
    source = openverse.Openverse(client_web(clock), None, None, site.url)
    found, cursors = every_page(source, "portrait")
    assert len(found) == openverse.MAX_PAGES and cursors[-1] is None
    first = site.requests[0]
    assert first.query["page_size"] == "20" and first.query["license"] == "by,by-sa,cc0,pdm"
    assert first.headers["Authorization"] is None
    assert (
        found[0].provenance.license == "CC-BY-SA-2.0" and "Openverse's word" in found[0].stated["openverse"]
    )


def test_openverse_finds_on_commons_are_looked_up_there(site, clock):
    commons = Commons(site, 4)
    commons.licenses[2] = "All rights reserved"
    place = "https://commons.wikimedia.org/w/index.php?curid={}"
    openverse_api(
        site,
        [result(id=f"o{i}", foreign_landing_url=place.format(i), source="wikimedia") for i in (1, 2, 77)]
        + [result(id="o9")],
    )
    web = client_web(clock)
    source = openverse.Openverse(web, wikimedia.Wikimedia(web, commons.api_url), None, site.url)
    there, closed, gone, other = source.search("portrait", "").candidates
    assert there.uri == "wikimedia:1" and there.provenance.license == "CC-BY-SA-4.0" and not there.refusal
    assert there.stated["found_by"] == "Openverse"
    assert closed.refusal == "license_nonfree"  # whatever Openverse says
    assert gone.refusal == "license_unknown" and "no more" in gone.message
    assert other.uri == "openverse:o9-1"
    assert len(site.asked("/w/api.php")) == 1


def test_openverse_keeps_its_anonymous_limits(site, clock):
    openverse_api(site, [result()], pages=1)
    web = client_web(clock, openverse.policies(site.url))
    source = openverse.Openverse(web, None, None, site.url)
    began = clock.now()
    for _ in range(200):
        source.search("x", "")
    assert clock.now() - began >= 9 * 60
    with pytest.raises(TransientError) as caught:
        source.search("x", "")
    assert caught.value.reason == "QuotaUsed"


# ---- lists of addresses ----------------------------------------------------------------------------------

ROWS = [
    {"URL": "https://a.example/1.jpg", "license": "CC BY 4.0", "author": "Ada", "other": "x"},
    {"URL": "https://a.example/2.jpg", "license": "", "author": ""},
    {"URL": "", "license": "CC0", "author": ""},
    {"URL": "https://a.example/3.jpg", "license": "CC BY-NC 4.0", "author": "Bo"},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_lists_in_every_format_say_the_same(tmp_path, kind):
    path = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    found = UrlList(path).search("", "").candidates
    assert [candidate.uri[-5:] for candidate in found] == ["1.jpg", "2.jpg", "3.jpg"]
    assert [candidate.refusal for candidate in found] == ["", "license_unknown", "license_nc"]
    assert found[0].provenance.license == "CC-BY-4.0" and found[0].provenance.author == "Ada"


def test_a_long_list_is_read_in_pages_and_from_the_middle(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url\n" + "".join(f"https://a.example/{index}.jpg\n" for index in range(2500)))
    found, cursors = every_page(UrlList(path), "")
    assert len(found) == 2500 and cursors == ["1000", "2000", None]
    assert UrlList(path).search("", "2000").candidates[0].uri.endswith("/2000.jpg")


def test_a_list_that_is_none_is_told_and_another_content_is_another_query(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("address\nx\n")
    first = UrlList(path)
    with pytest.raises(SourceError, match="no column 'url'"):
        first.search("", "")
    path.write_text("url\nx\n")
    assert UrlList(path).query != first.query and first.query.startswith("list.csv@")
    with pytest.raises(SourceError, match="cannot read"):
        UrlList(tmp_path / "missing.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"bad\.parquet"):
        UrlList(tmp_path / "bad.parquet").search("", "")


def test_a_long_list_is_not_held_in_memory(tmp_path):
    path = tmp_path / "list.csv"
    with path.open("w") as file:
        file.write("url\n")
        for index in range(50_000):
            file.write(f"https://a.example/{index}.jpg\n")
    source = UrlList(path)
    tracemalloc.start()
    cursor = ""
    while cursor is not None:
        cursor = source.search("", cursor).next
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
