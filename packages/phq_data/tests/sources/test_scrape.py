"""A whole scrape against a server that answers as Wikimedia Commons does."""

import json
import socket
import threading
from dataclasses import replace

import pytest
from web_server import Answer, Commons, FakeClock, jpeg, serving

from phq_data.cli.scrape_progress import summary
from phq_data.pipeline.removal import remove
from phq_data.pipeline.scrape import ScrapeRequest, preview_lines, scrape_into
from phq_data.sources import SourceError
from phq_data.sources.terms import TermsError, recorded
from phq_data.sources.web import http
from phq_data.sources.web.limits import HostPolicy
from phq_data.sources.web.settings import WebSettings
from phq_data.workspace import Workspace


class Silent:
    """A `Progress` that remembers what was said."""

    def __init__(self):
        self.said, self.web = [], self

    def begin(self, had, limit): ...
    def page(self, *arguments): ...
    def file(self, *arguments): ...
    def file_seen(self, new): ...
    def part_done(self, report): ...
    def waiting(self, host, seconds): ...
    def say(self, text):
        self.said.append(text)


@pytest.fixture
def commons(monkeypatch):
    """A Commons of 13 files on a server of ours; nobody really waits, and its host has no limits."""
    original = http.Web.__init__

    def quick(self, *arguments, **options):
        options.update(clock=FakeClock(), policies={}, default=HostPolicy(connections=8))
        original(self, *arguments, **options)

    monkeypatch.setattr(http.Web, "__init__", quick)
    with serving() as site:
        yield Commons(site, 13)


@pytest.fixture
def run(commons, tmp_path):
    """Scrape into a workspace; the outcome."""
    settings = WebSettings("ada@example.org", {}, {"wikimedia": commons.api_url}, True)

    def go(source="wikimedia", folder="ws", progress=None, **request):
        request.setdefault("queries", ("one", "two") if source == "wikimedia" else ())
        return scrape_into(
            str(tmp_path / folder), ScrapeRequest(source, **request), progress=progress or Silent(),
            settings=settings,
        )  # fmt: skip

    vars(go)["settings"] = settings
    vars(go)["workspace"] = lambda folder="ws": Workspace.open(tmp_path / folder)
    return go


def plan(workspace):
    """The plan by parts, without the day."""
    found = []
    for part in workspace.parts("plan"):
        rows = workspace.read_part("plan", part).to_pylist()
        found.append([{k: v for k, v in row.items() if k != "rights_checked_at"} for row in rows])
    return found


def outcomes(workspace):
    return {row["uri"]: (row["outcome"], row["reason"]) for row in workspace.table("ledger").to_pylist()}


def test_photos_are_there_right_after_with_provenance_and_evidence(commons, run):
    outcome = run()
    rows = {row["uri"]: row for row in run.workspace().table("photos").to_pylist()}
    assert len(rows) == 13 and outcome.scrape.downloaded == 13
    row = rows["wikimedia:4"]
    assert (row["provider"], row["license"], row["author"]) == ("wikimedia", "CC-BY-SA-4.0", "Ada Example")
    assert row["page_url"].endswith("File:Photo_4.jpg") and row["file_url"].endswith("/photos/4.jpg")
    assert row["source"] == "one" and row["license_url"].endswith("by-sa/4.0/")
    evidence = json.loads(row["rights_evidence"])
    assert evidence["LicenseShortName"] == "CC BY-SA 4.0" and evidence["Restrictions"] == "personality"
    assert "404" in evidence["robots"] and "404" in evidence["tdm"] and evidence["x_robots_tag"] == "none"
    assert run.workspace().read_bytes(row["key"]) == commons.photos[4]


def test_photos_are_planned_in_the_order_of_the_search_not_of_the_downloads(commons, run):
    slow = commons.photos[0]
    commons.site.pages["/photos/0.jpg"] = lambda request: Answer(slow, pause=0.3)
    run()
    assert [row["uri"] for row in plan(run.workspace())[0]] == [f"wikimedia:{i}" for i in range(13)]


def test_a_second_run_asks_for_nothing(commons, run):
    run()
    before = len(commons.site.requests)
    outcome = run()
    assert len(commons.site.requests) == before
    assert outcome.scrape.downloaded == 0 and "nothing new" in summary(outcome)[0]


def test_what_is_refused_fails_or_repeats_is_in_the_ledger_with_its_reason(commons, run):
    commons.licenses.update({1: "CC BY-NC 4.0", 2: "see below"})
    pages = commons.site.pages
    pages["/photos/3.jpg"] = Answer(b"gone", 410)
    pages["/photos/4.jpg"] = b"<html>not a photo</html>" * 10
    pages["/photos/6.jpg"] = Answer(commons.photos[6], headers={"X-Robots-Tag": "noai, noimageai"})
    pages["/photos/7.jpg"] = Answer(b"", 503)
    commons.photos[8] = pages["/photos/8.jpg"] = commons.photos[9]
    outcome = run()
    found = outcomes(run.workspace())
    assert found["wikimedia:1"] == ("rejected", "license_nc")
    assert found["wikimedia:2"] == ("rejected", "license_unclear")
    assert found["wikimedia:3"] == ("failed", "gone")
    assert found["wikimedia:4"] == ("failed", "not_an_image")
    assert found["wikimedia:6"] == ("rejected", "opt_out")
    assert found["wikimedia:7"] == ("failed", "ServerError")
    assert found["wikimedia:9"] == ("rejected", "same_file")
    assert sum(word == "kept" for word, _ in found.values()) == 6
    assert commons.site.counts("/photos")["/photos/1.jpg"] == 0
    assert commons.site.counts("/photos")["/photos/7.jpg"] == 4  # as many tries as `Web.attempts`
    assert outcome.scrape.transient == 1


def test_retry_failed_asks_only_for_what_may_have_passed_and_mends_the_part(commons, run):
    pages = commons.site.pages
    pages["/photos/3.jpg"] = Answer(b"gone", 410)
    pages["/photos/7.jpg"] = Answer(b"", 503)
    run()
    pages["/photos/7.jpg"] = commons.photos[7]
    pages["/photos/3.jpg"] = commons.photos[3]
    commons.site.requests.clear()
    run(retry_failed=True, queries=("another",))
    assert not commons.site.requests
    run(retry_failed=True, queries=())  # of whatever query
    assert commons.site.asked("/photos") == ["/photos/7.jpg"] and not commons.site.asked("/w/")
    found = outcomes(run.workspace())
    assert found["wikimedia:7"] == ("kept", "") and found["wikimedia:3"] == ("failed", "gone")
    assert len(plan(run.workspace())) == 1 and run.workspace().table("photos").num_rows == 12
    commons.site.requests.clear()
    run(retry_failed=True)
    assert not commons.site.requests


def test_a_limit_counts_photos_and_earlier_runs_and_a_larger_one_goes_on(commons, run):
    commons.licenses[1] = "All rights reserved"
    commons.site.pages["/photos/2.jpg"] = Answer(b"", 404)
    run(limit=4)
    assert sorted(commons.site.counts("/photos")) == [f"/photos/{i}.jpg" for i in (0, 2, 3, 4, 5)]
    run(limit=4)
    assert len(commons.site.asked("/photos")) == 5
    run(limit=6)
    assert run.workspace().table("photos").num_rows == 6
    assert max(commons.site.counts("/photos").values()) == 1


def test_another_query_takes_its_own_photos(commons, run):
    run(queries=("one",), limit=2)
    run(queries=("other",), limit=2)  # has two of those that "one" found and did not take
    sources = [row["source"] for row in run.workspace().table("photos").to_pylist()]
    assert sources == ["one", "one", "other", "other"]
    assert sorted(commons.site.asked("/photos")) == [f"/photos/{i}.jpg" for i in range(4)]
    run(queries=("one", "other"))
    assert run.workspace().table("photos").num_rows == 13


def test_a_stopped_scrape_goes_on_at_page_and_file_and_ends_with_the_same_plan(commons, run, monkeypatch):
    """Killed at every journal entry in turn: the plan is that of an undisturbed run, nothing is had twice."""
    from phq_data.sources.web.journal import Journal

    run(folder="calm")
    calm = plan(run.workspace("calm"))
    for name in ("record", "add_page", "planned"):
        original = getattr(Journal, name)
        for moment in (1, 2):
            commons.site.requests.clear()
            folder, left = f"{name}{moment}", [moment]

            def dying(self, *arguments, original=original, left=left):
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt
                return original(self, *arguments)

            monkeypatch.setattr(Journal, name, dying)
            if name == "planned" and moment == 2:
                run(folder=folder)  # one part: there is no second time
            else:
                with pytest.raises(KeyboardInterrupt):
                    run(folder=folder)
            monkeypatch.setattr(Journal, name, original)
            run(folder=folder)
            assert plan(run.workspace(folder)) == calm
            assert run.workspace(folder).table("photos").num_rows == 13
            again = [path for path, count in commons.site.counts("/photos").items() if count > 1]
            assert len(again) <= 16  # those in flight when it died
            if name == "planned":
                assert not again


def test_a_dead_network_stops_it_instead_of_failing_every_file(commons, run, monkeypatch):
    from phq_data.sources.web import run as module

    monkeypatch.setattr(module, "GIVE_UP", 3)
    for index in range(13):
        commons.site.pages[f"/photos/{index}.jpg"] = Answer(b"", 502)
    outcome = run(connections=1)
    assert len(outcome.scrape.stopped) == 1 and "--retry-failed" in outcome.scrape.stopped[0]
    assert outcome.scrape.failed["ServerError"] < 13
    for index in range(13):
        commons.site.pages[f"/photos/{index}.jpg"] = commons.photos[index]
    run(retry_failed=True)
    run()
    assert run.workspace().table("photos").num_rows == 13


def test_without_a_network_two_searches_are_tried_and_no_more(commons, run):
    with socket.create_server(("127.0.0.1", 0)) as closed:  # a port that nobody listens at afterwards
        port = closed.getsockname()[1]
    run.settings.api["wikimedia"] = f"http://127.0.0.1:{port}/api"
    progress = Silent()
    outcome = run(queries=tuple(f"query {number}" for number in range(60)), progress=progress)
    assert len(outcome.scrape.stopped) == 2 == len(progress.said)
    assert "the 58 other searches wait" in outcome.scrape.stopped[1]


def test_refresh_finds_what_is_new_and_what_has_changed_and_nothing_else(commons, run):
    run()
    commons.site.requests.clear()
    commons.photos[13], commons.count, commons.licenses[13] = jpeg(13), 14, "CC0"
    commons.photos[2] = jpeg(222)
    for index in (2, 13):
        commons.site.pages[f"/photos/{index}.jpg"] = commons.photos[index]
    run(refresh=True, limit=15)
    assert sorted(commons.site.asked("/photos")) == ["/photos/13.jpg", "/photos/2.jpg"]
    assert run.workspace().table("photos").num_rows == 15


def test_terms_stop_a_scrape_before_anything_is_asked(commons, run, tmp_path):
    with pytest.raises(TermsError, match="Pexels"):
        run("pexels", queries=("one",))
    assert not commons.site.requests and not (tmp_path / "ws").exists()


def test_a_permission_is_recorded_with_every_row_and_opens_closed_licenses(commons, run, tmp_path):
    commons.licenses[1] = "CC BY-NC 4.0"
    statement = {
        "who": "Rosa", "scope": ["store", "train"], "date": "2026-11-01", "reference": "letter 12",
        "provider": "wikimedia",
    }  # fmt: skip
    path = tmp_path / "permission.json"
    path.write_text(json.dumps(statement))
    run(permissions=(str(path),))
    rows = run.workspace().table("photos").to_pylist()
    assert len(rows) == 13
    assert {json.loads(row["permission"])["reference"] for row in rows} == {"letter 12"}
    both = [json.dumps({**statement, "scope": [use], "reference": use}) for use in ("store", "train")]
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    for one, text in zip(paths, both, strict=True):
        one.write_text(text)
    run(folder="two", permissions=tuple(map(str, paths)))
    assert outcomes(run.workspace("two"))["wikimedia:1"] == ("kept", "")
    kept = run.workspace("two").table("photos", ["permission"]).to_pylist()[0]
    assert [one.reference for one in recorded(kept)] == ["store", "train"]
    run(folder="one of two", permissions=(str(paths[1]),))
    assert outcomes(run.workspace("one of two"))["wikimedia:1"] == ("rejected", "license_nc")
    blanket = tmp_path / "blanket.json"
    blanket.write_text(json.dumps({**statement, "provider": ""}))
    run(folder="other", permissions=(str(blanket),))
    assert outcomes(run.workspace("other"))["wikimedia:1"] == ("rejected", "license_nc")


def test_a_preview_asks_for_one_page_a_query_and_writes_nothing(commons, run, tmp_path):
    commons.licenses[1] = "CC BY-NC 4.0"
    lines = list(preview_lines(ScrapeRequest("wikimedia", queries=("one", "two")), run.settings))
    assert commons.site.asked() == ["/w/api.php"] * 2 and not list(tmp_path.iterdir())
    assert "one: first page 5 of 13, 4 to download, 1 refused (license_nc)" in lines


def test_a_scrape_without_contact_or_with_a_useless_path_is_told_what_to_do(commons, run, tmp_path):
    anonymous = replace(run.settings, contact="")
    with pytest.raises(SourceError, match="PHQ_CONTACT"):
        scrape_into(str(tmp_path / "ws"), ScrapeRequest("wikimedia"), progress=Silent(), settings=anonymous)
    with pytest.raises(SourceError, match="--query"):
        run("wikimedia", path="portraits")
    with pytest.raises(SourceError, match="wants a path"):
        run("urls")


class Telling(list):
    """A list that sets an event when something is appended."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    def append(self, item):
        super().append(item)
        self.event.set()


def test_two_scrapes_take_turns(commons, run):
    asked, told = threading.Event(), threading.Event()

    def late(request):
        """The first scrape gets its photo when the second has been told to wait."""
        asked.set()
        assert told.wait(60)
        return Answer(commons.photos[0])

    commons.site.pages["/photos/0.jpg"] = late
    first = threading.Thread(target=run)
    first.start()
    assert asked.wait(60)
    waiting = Silent()
    waiting.said = Telling(told)
    outcome = run(progress=waiting)
    first.join()
    assert outcome.scrape.downloaded == 0 and "in use" in waiting.said[0]


def test_one_dead_host_in_a_list_does_not_stop_the_others(commons, run, tmp_path, monkeypatch):
    from phq_data.sources.web import run as module

    monkeypatch.setattr(module, "GIVE_UP", 3)
    path = tmp_path / "list.csv"
    with serving() as dead:
        dead.pages = {f"/{index}.jpg": Answer(b"", 500) for index in range(9)}
        rows = [f"{dead.url}/{index}.jpg,CC0" for index in range(9)]
        rows += [f"{commons.site.url}/photos/{index}.jpg,CC0" for index in range(5)]
        path.write_text("\n".join(["url,license", *rows]))
        outcome = run("urls", path=str(path), connections=1)
        assert outcome.scrape.downloaded == 5 and not outcome.scrape.stopped
        assert outcome.scrape.failed["HostDown"] >= 4 and outcome.scrape.transient == 9
        dead.pages = {f"/{index}.jpg": jpeg(100 + index) for index in range(9)}
        run("urls", path=str(path), connections=1, retry_failed=True)
    assert run.workspace().table("photos").num_rows == 14


def test_a_listed_photo_of_a_provider_with_terms_is_refused(commons, run, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url,license\nhttps://images.pexels.com/photos/1/a.jpeg,CC0\n")
    outcome = run("urls", path=str(path))
    assert dict(outcome.scrape.refused) == {"terms": 1}
    (row,) = run.workspace().table("ledger").to_pylist()
    assert (row["outcome"], row["reason"]) == ("rejected", "terms") and "Pexels" in row["message"]


def test_a_distant_workspace_keeps_photos_and_journal_there(commons, run):
    url = f"memory://scrape-{id(run)}"
    request = ScrapeRequest("wikimedia", queries=("one",), limit=8)
    scrape_into(url, request, progress=Silent(), settings=run.settings)
    workspace = Workspace.open(url)
    assert workspace.table("photos").num_rows == 8 and workspace.exists("scrape/journal.sqlite")
    before = len(commons.site.requests)
    scrape_into(url, request, progress=Silent(), settings=run.settings)
    assert len(commons.site.requests) == before
    scrape_into(url, replace(request, limit=0), progress=Silent(), settings=run.settings)
    assert workspace.table("photos").num_rows == 13
    assert max(commons.site.counts("/photos").values()) == 1


def test_a_folder_is_taken_with_a_free_license_or_a_permission_only(commons, run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes(jpeg(index))
    rights = {
        "files": {"0.jpg": {"license": "CC BY 4.0", "author": "Ada"}, "1.jpg": {"license": "CC BY-NC 4.0"}}
    }
    (folder / "rights.json").write_text(json.dumps(rights))
    run("folder", path=str(folder))
    found = {uri[-5:]: outcome for uri, outcome in outcomes(run.workspace()).items()}
    assert found == {
        "0.jpg": ("kept", ""), "1.jpg": ("rejected", "license_nc"), "2.jpg": ("rejected", "license_unknown"),
    }  # fmt: skip
    assert run.workspace().table("photos").to_pylist()[0]["license"] == "CC-BY-4.0"
    rights["files"]["2.jpg"] = {"license": "CC0"}
    (folder / "rights.json").write_text(json.dumps(rights))
    run("folder", path=str(folder))
    assert run.workspace().table("photos").num_rows == 2
    path = tmp_path / "permission.json"
    statement = {"who": "Ada", "scope": ["store", "train"], "date": "2026-11-01", "reference": "mail"}
    path.write_text(json.dumps(statement))
    run("folder", path=str(folder), permissions=(str(path),))
    rows = {row["uri"][-5:]: row for row in run.workspace().table("photos").to_pylist()}
    assert len(rows) == 3 and json.loads(rows["1.jpg"]["permission"])["reference"] == "mail"


def test_a_damaged_journal_is_told_and_deleting_it_takes_no_photo_twice(commons, run, tmp_path):
    run()
    before = plan(run.workspace())
    for path in (tmp_path / "ws/scrape").iterdir():
        path.write_bytes(b"no database" * 500)
    with pytest.raises(SourceError, match="Delete it to search anew"):
        run()
    for path in (tmp_path / "ws/scrape").iterdir():
        path.unlink()
    run()
    assert plan(run.workspace())[: len(before)] == before
    assert run.workspace().table("photos").num_rows == 13


def test_photos_of_a_lost_part_of_the_plan_are_planned_again_without_a_download(commons, run, tmp_path):
    run()
    before, requests = plan(run.workspace()), len(commons.site.requests)
    for folder in ("plan", "plan-copy"):
        (tmp_path / f"ws/{folder}/part-00000.parquet").unlink()
    run()
    assert plan(run.workspace()) == before and len(commons.site.requests) == requests
    assert run.workspace().table("photos").num_rows == 13


def test_what_was_taken_out_does_not_come_back_under_another_name(commons, run):
    commons.photos[8] = commons.site.pages["/photos/8.jpg"] = commons.photos[9]
    run(limit=9)
    workspace = run.workspace()
    gone = next(row for row in plan(workspace)[0] if row["uri"] == "wikimedia:8")
    with workspace.lock():
        remove(workspace, [gone["sha256"]])
    outcome = run()
    found = {row["uri"]: row for row in workspace.table("plan").to_pylist()}
    for uri in ("wikimedia:8", "wikimedia:9"):
        row = found[uri]
        assert (row["error"], row["key"], row["sha256"]) == ("removed", "", gone["sha256"])
    assert not workspace.exists(gone["key"]) and outcome.scrape.refused["removed"] == 1
    assert outcomes(workspace)["wikimedia:9"] == ("rejected", "removed")
    assert workspace.table("photos").num_rows == 11
    for place in ("plan", "plan-copy"):
        workspace.remove(f"{place}/part-00000.parquet")
    run()
    errors = {row["uri"]: row["error"] for row in workspace.table("plan").to_pylist()}
    assert [uri for uri, error in sorted(errors.items()) if error] == ["wikimedia:8", "wikimedia:9"]
    assert not workspace.exists(gone["key"]) and workspace.table("photos").num_rows == 11


def test_an_address_that_is_none_or_an_error_nobody_foresaw_costs_one_file(
    commons, run, tmp_path, monkeypatch
):
    from phq_data.sources.web.fetch import Fetcher

    original = Fetcher.fetch

    def fetch(self, url, **options):
        if url.endswith("/3.jpg"):
            raise ZeroDivisionError("by nought")
        return original(self, url, **options)

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    bad = ["http://a..b/x.jpg", f"http://{'a' * 300}/x.jpg", "http://xn--zz/x.jpg", "http://[::1"]
    good = [f"{commons.site.url}/photos/{index}.jpg" for index in range(5)]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["url,license", *(f"{url},CC0" for url in [*bad, *good])]))
    outcome = run("urls", path=str(path))
    found = outcomes(run.workspace())
    assert {found[url] for url in bad} == {("failed", "bad_url")}
    assert found[good[3]] == ("failed", "unexpected") and outcome.scrape.downloaded == 4
    assert "ZeroDivisionError: by nought" in {
        r["message"] for r in run.workspace().table("ledger").to_pylist()
    }


def test_half_letters_from_an_interface_are_written_out():
    from phq_data.sources import Provenance
    from phq_data.sources.web import Candidate
    from phq_data.sources.web.run import judged

    found = judged(Candidate("a:1", "http://h/\ud800.jpg", Provenance(title="x\udfff")), "wikimedia", ())
    assert (found.refusal, found.url, found.provenance.title) == (
        "bad_url",
        "http://h/\\ud800.jpg",
        "x\\udfff",
    )
    assert (
        judged(Candidate("a:1", "http://h/b.jpg", Provenance(title="x\udfff")), "wikimedia", ()).refusal == ""
    )


def listed(commons, path, *rows, header="url,license,author"):
    lines = [f"{commons.site.url}/photos/{index}.jpg,{rest}" for index, rest in rows]
    path.write_text("\n".join([header, *lines]))
    return str(path)


def test_a_list_that_states_a_license_later_takes_what_was_refused(commons, run, tmp_path):
    path = tmp_path / "list.csv"
    assert (
        run("urls", path=listed(commons, path, (0, ","), (1, "CC0,"))).scrape.refused["license_unknown"] == 1
    )
    outcome = run("urls", path=listed(commons, path, (0, "CC BY 4.0,Bo"), (1, "CC0,")))
    assert outcome.scrape.downloaded == 1 and outcome.scrape.restated == 0
    rows = {row["uri"]: row for row in run.workspace().table("photos").to_pylist()}
    row = rows[f"{commons.site.url}/photos/0.jpg"]
    assert (row["license"], row["author"]) == ("CC-BY-4.0", "Bo") and len(rows) == 2
    assert {word for word, _ in outcomes(run.workspace()).values()} == {"kept"}
    assert run.workspace().table("ledger").num_rows == 2  # the part was mended: no second row


def test_a_permission_that_comes_later_takes_what_was_refused(commons, run, tmp_path):
    commons.licenses[1] = "CC BY-NC 4.0"
    run()
    path = tmp_path / "permission.json"
    path.write_text(json.dumps({
        "who": "Rosa", "scope": ["store", "train"], "date": "2026-11-01", "reference": "letter 12",
        "provider": "wikimedia",
    }))  # fmt: skip
    commons.site.requests.clear()
    run(permissions=(str(path),))
    assert commons.site.asked("/photos") == ["/photos/1.jpg"] and not commons.site.asked("/w/")
    rows = {row["uri"]: row for row in run.workspace().table("photos").to_pylist()}
    assert len(rows) == 13 and json.loads(rows["wikimedia:1"]["permission"])["reference"] == "letter 12"


def test_rights_that_a_list_states_later_replace_the_planned_ones(commons, run, tmp_path):
    path = tmp_path / "list.csv"
    run("urls", path=listed(commons, path, (0, "CC BY 4.0,Bo"), (1, "CC BY 4.0,Bo"), (2, "CC0,")))
    commons.site.requests.clear()
    outcome = run("urls", path=listed(commons, path, (0, "CC BY-NC 4.0,Bo"), (1, ",Cy"), (2, "CC0,")))
    assert outcome.scrape.restated == 2 and "replace the planned ones" in "\n".join(summary(outcome))
    rows = {row["uri"][-5:]: row for row in run.workspace().table("photos").to_pylist()}
    found = {name: (row["license"], row["author"]) for name, row in rows.items()}
    assert found["0.jpg"][0] == "CC BY-NC 4.0" and found["1.jpg"] == ("CC-BY-4.0", "Cy")
    assert found["2.jpg"] == ("CC0-1.0", None) and not commons.site.asked("/photos/0")
    assert run("urls", path=str(path)).scrape.restated == 0
    outcome = run("urls", path=listed(commons, path, (2, "CC BY 4.0,Di")))  # asked anew in between
    rows = {row["uri"][-5:]: row for row in run.workspace().table("photos").to_pylist()}
    assert outcome.scrape.restated == 1 and rows["2.jpg"]["author"] == "Di"


def test_rights_that_commons_states_later_are_taken_over_by_a_refresh(commons, run):
    run()
    commons.licenses[3] = "CC BY-SA 3.0"
    commons.licenses[4] = "CC BY-NC 4.0"
    outcome = run(refresh=True)
    rows = {row["uri"]: row for row in run.workspace().table("photos").to_pylist()}
    assert outcome.scrape.restated == 2 and outcome.scrape.downloaded == 0 and len(rows) == 13
    assert rows["wikimedia:3"]["license"] == "CC-BY-SA-3.0"
    assert "NC" in (rows["wikimedia:4"]["license"] or "NC")
    assert json.loads(rows["wikimedia:4"]["rights_evidence"])["LicenseShortName"] == "CC BY-NC 4.0"
    assert run(refresh=True).scrape.restated == 0


def test_a_refresh_asks_the_first_page_first_and_keeps_the_limit(commons, run):
    run(limit=4)
    commons.site.requests.clear()
    run(refresh=True, limit=4)
    assert commons.site.asked() and commons.site.asked()[0].startswith("/w/api.php")
    assert not commons.site.asked("/photos") and run.workspace().table("photos").num_rows == 4
    commons.site.requests.clear()
    run(refresh=True, limit=6)
    assert commons.site.asked()[0].startswith("/w/api.php")
    assert run.workspace().table("photos").num_rows == 6
