"""The report says what the tables say, is one safe file, and works for nothing as for many."""

import datetime
import html.parser
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import chromium
from PIL import Image

from phq_data import schema
from phq_data.config import ScreenConfig
from phq_data.records import Decision
from phq_data.release.preview import standing
from phq_data.report import data as numbers
from phq_data.report import plots, quality, sheets, view
from phq_data.report.judged import judged
from phq_data.report.page import write_report
from phq_data.review import decisions
from phq_data.workspace import Workspace, WorkspaceError

HOSTILE = "\u202e<img src=x onerror=alert(1)>&\"'<script>{{ 7*7 }}</script> number.png"


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: tags with their attributes, text, and broken nesting."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, text):
        self.words.append(text)

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if attrs.get(name)]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(path) -> Page:
    page = Page(Path(path).read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(autouse=True)
def sheets_on_demand(monkeypatch, request):
    """Most tests are about the page: only those named so pay for the PNG sheets."""
    if "sheet" not in request.node.name:
        monkeypatch.setattr("phq_data.report.page._sheets", lambda *arguments: {})


@pytest.fixture
def made(make_workspace):
    return make_workspace(count=12, rejected=3)


def test_the_numbers_are_those_of_the_tables(made):
    data = numbers.gather(made.workspace)
    assert (data.planned_files, len(data.photos), data.people, len(data.portraits)) == (14, 13, 12, 12)
    assert (len(data.kept), len(data.rejected), data.distinct) == (9, 3, 8)
    stages = {stage.name: stage for stage in data.stages}
    assert list(stages) == ["ingest", "detect", "fit", "align_crop", "screen", "dedup"]
    ingest, detect, screen = stages["ingest"], stages["detect"], stages["screen"]
    assert (ingest.items, ingest.kept, ingest.rejected, ingest.failed) == (14, 13, 0, 1)
    assert (detect.items, detect.kept, detect.rejected, detect.failed) == (13, 12, 1, 0)
    assert [(r.reason, r.count) for r in screen.reasons] == [("off_shoulders", 3)]
    # The fixture's clocks: stage k takes k/2 seconds a part, and there are three parts.
    assert ingest.seconds == pytest.approx(1.5) and screen.seconds == pytest.approx(7.5)
    assert screen.per_second == pytest.approx(12 / 7.5) and screen.share == pytest.approx(5 / 15)
    assert data.limiting_stage == "screen"
    assert data.changed == {"crop.size"}
    [cluster] = data.clusters
    assert cluster.members == tuple(row["portrait_id"] for row in made.duplicates)
    assert cluster.distances == (0, 3)


def test_portraits_carry_verdict_duplicate_and_pose(made):
    portraits = numbers.gather(made.workspace).portraits
    for row in made.portraits:
        mine = portraits.loc[row["portrait_id"]]
        assert [mine[f"pose_{k}"] for k in range(6)] == pytest.approx(row["pose"], abs=1e-6)
        assert mine["yaw"] == pytest.approx(row["yaw"], abs=1e-5)
    rejected = {row["portrait_id"] for row in made.screened if not row["kept"]}
    assert set(portraits.index[portraits["state"] == "rejected"]) == rejected
    leader, follower = (row["portrait_id"] for row in made.duplicates)
    assert portraits.at[follower, "duplicate_of"] == leader and portraits.at[leader, "duplicate_of"] == ""


def test_the_page_stands_alone_and_its_links_lead_somewhere(made):
    page = read(write_report(made.workspace))
    for address in page.attributes("src"):
        assert address.startswith("data:image/jpeg;base64,")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    places = set(page.attributes("id"))
    assert len(places) == len(page.attributes("id"))  # an id is given once
    for link in page.attributes("href"):
        assert link.removeprefix("#") in places
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    kept = [row["portrait_id"] for row in made.screened if row["kept"]]
    assert {f"p-{portrait_id}" for portrait_id in kept} <= places
    assert "off_shoulders" in page.text and "not_an_image" in page.text and "no_person" in page.text
    assert "31 %" in page.text and "at most 8 %" in page.text


def test_kept_portraits_come_in_order_of_yaw_with_three_pictures_each(made):
    page = read(write_report(made.workspace))
    cards = [
        attrs["id"]
        for tag, attrs in page.tags
        if tag == "li" and attrs.get("class", "").startswith("card ") and " reject " not in attrs["class"]
    ]
    rows = sorted((r for r in made.portraits), key=lambda r: r["yaw"])
    kept = {row["portrait_id"] for row in made.screened if row["kept"]}
    assert cards == [f"p-{row['portrait_id']}" for row in rows if row["portrait_id"] in kept]
    pictures = [a["class"] for t, a in page.tags if t == "img" and a.get("class")]
    assert pictures == ["portrait", "overlay", "mask"] * len(cards)


def test_the_sheets_lie_beside_the_page(made):
    page = Path(write_report(made.workspace))
    assert page.name == "index.html" and page.parent.name == "report"
    for name in ("portraits", "overlays", "masks", "rejected", "cameras"):
        with Image.open(page.parent / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_a_sheet_of_nothing_is_taken_away(make_workspace, tmp_path):
    made = make_workspace(count=3, rejected=0)
    out = tmp_path / "out"
    out.mkdir()
    (out / "rejected.png").write_bytes(b"of an earlier build")
    page = Path(write_report(made.workspace, out))
    assert page == out / "index.html"
    assert not (out / "rejected.png").exists() and (out / "portraits.png").exists()
    assert "screen rejected none" in read(page).text


def test_hostile_names_stay_text(make_workspace):
    made = make_workspace(count=3, rejected=1, name="{number}" + HOSTILE, author=HOSTILE)
    text = Path(write_report(made.workspace)).read_text()
    assert "<script" not in text and "<img src=x" not in text and "49" not in Page(text).attributes("title")
    page = Page(text)
    assert page.open == []
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in page.text  # as words
    assert "\u202e" not in page.text


def test_only_web_addresses_become_links(make_workspace):
    made = make_workspace(count=2)
    rows = made.workspace.read_part("tables/photos", 0).to_pylist()
    for row, address in zip(rows, ("javascript:alert(1)", "https://example.org/by", None), strict=True):
        row["license"], row["license_url"] = f"L-{address}", address
    made.workspace.write_part("tables/photos", 0, schema.to_table("photos", rows), "test")
    page = read(write_report(made.workspace))
    outside = [link for link in page.attributes("href") if not link.startswith("#")]
    assert outside == ["https://example.org/by"]


def test_an_empty_workspace_says_so_and_has_no_sheets(tmp_path):
    workspace = Workspace.open(tmp_path / "empty", create=True)
    page = read(write_report(workspace))
    assert "This workspace is empty" in page.text and "No stage has run yet" in page.text
    assert not list((tmp_path / "empty/report").glob("*.png"))


@pytest.mark.parametrize("count", [0, 3])
def test_no_portrait_kept_is_no_error(make_workspace, count):
    made = make_workspace(count=count, rejected=count)
    text = read(write_report(made.workspace)).text
    assert "No portrait was kept" in text
    assert ("No portrait was made" in text) == (count == 0)


def test_an_unfinished_build_is_told(make_workspace):
    made = make_workspace(count=8)
    for folder in ("tables/screened", "ledger/screen", "tables/duplicates"):
        for part in made.workspace.parts(folder):
            made.workspace.remove(f"{folder}/part-{part:05d}.parquet")
    text = read(write_report(made.workspace)).text
    assert "8 portraits are not screened yet" in text
    made.workspace.remove("ledger/fit/part-00001.parquet")
    assert "1 of 2 parts done" in read(write_report(made.workspace)).text


def test_a_workspace_without_a_rig_gives_a_page_without_meshes(make_workspace):
    made = make_workspace(count=3)
    made.workspace.remove("rig.safetensors")
    page = read(write_report(made.workspace))
    assert "no meshes are drawn" in page.text and "overlay" not in page.attributes("class")


def test_samples_do_not_depend_on_order_and_show_rare_reasons():
    ids = [f"{i:032x}" for i in np.random.default_rng(0).permutation(1000)]
    assert sheets.sample(ids, 10) == sheets.sample(reversed(ids), 10) == [f"{i:032x}" for i in range(10)]
    reasons = [["blurry"]] * 990 + [["crowded"]] * 9 + [["too_dark", "blurry"]]
    rejected = pd.DataFrame({"reasons": reasons}, index=sorted(ids))
    shown = rejected.loc[sheets.sample_by_reason(rejected, 5), "reasons"].str[0].tolist()
    assert shown == ["too_dark", "crowded", "blurry", "crowded", "blurry"]


def test_the_budget_bounds_the_page_whatever_the_photos_look_like(make_workspace, monkeypatch):
    made = make_workspace(count=8, rejected=0, twins=False)
    noise = np.random.default_rng(0).integers(0, 256, (4, sheets.SIDE, sheets.SIDE, 3), np.uint8)
    largest = 3 * len(sheets.data_uri(noise[0]))
    monkeypatch.setattr("phq_data.report.page.KEPT_BYTES", 3 * 8_000)
    few = Path(write_report(made.workspace))
    cards = read(few).text.count("8, chosen by id")
    assert cards == 1 and few.stat().st_size < 130_000
    assert 96 * largest > 8_000_000  # so without the budget, noisy photos would pass 15 MB


def test_masks_are_shown_as_cut_outs_with_a_border():
    image = np.full((64, 64, 3), 200, np.uint8)
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 32:] = 255
    shown = sheets.cut_out(image, alpha)
    assert (shown[:, 40:] == 200).all()
    assert (shown[:, :31] == sheets.checkerboard(64)[:, :31]).all()
    assert (shown[:, 32] == (227, 26, 100)).all()


def test_histogram_bins_hold_everything_once():
    angles = np.radians([-200, -180, -175, 0, 4.9, 5, 179.9, 180, 999, np.nan])
    drawn = plots.histogram("yaw", [angles], -180, 180, 5, 45)
    assert sum(bar.total for bar in drawn.bars) == 9
    at = {bar.low: bar.total for bar in drawn.bars if bar.total}
    assert at == {-180.0: 2, -175.0: 1, 0.0: 2, 5.0: 1, 175.0: 3}
    assert max(sum(bar.heights) for bar in drawn.bars) == pytest.approx(100)


def cameras(yaw, pitch) -> pd.DataFrame:
    frame = {"yaw": np.radians(np.asarray(yaw, float)), "pitch": np.radians(np.asarray(pitch, float))}
    return pd.DataFrame(frame, index=[f"{i:032x}" for i in range(len(yaw))])


def test_a_dot_lies_at_its_angles():
    drawn = plots.camera_plot(cameras([90], [20]), cameras([], []), {f"{0:032x}"})
    # 360 units wide from -180 degrees, 100 high from +30 degrees down to -30.
    assert 'd="M270.00 16.67h' in drawn.svg and f'href="#p-{0:032x}"' in drawn.svg
    assert not drawn.binned


def test_many_cameras_become_cells_that_count_all():
    random = np.random.default_rng(0)
    many = cameras(random.uniform(-180, 180, 50_000), random.normal(0, 20, 50_000).clip(-89, 89))
    drawn = plots.camera_plot(many, many.iloc[:10], set())
    counts = [int(n) for n in re.findall(r"(\d+) portraits</title>", drawn.svg)]
    assert drawn.binned and sum(counts) == 50_000 and drawn.most == max(counts)
    assert len(drawn.svg) < 600_000


def test_a_number_stands_beside_the_limit_of_its_name():
    screen = ScreenConfig(max_error_probability=0.5, min_blur=0.2, max_exposure=0.6)
    found = judged(
        {"error_probability": 0.6, "blur": 0.2, "exposure_low": 0.7, "coverage": 0.755, "new_thing": 3},
        screen,
    )
    assert [(j.title, j.value, j.limit, j.broken) for j in found] == [
        ("sharpness", "0.2", "at least 0.2", False),
        ("of the rig on the person", "75.5 %", "", False),
        ("of the person near black", "70 %", "at most 60 %", True),
        ("error probability", "0.6", "at most 0.5", True),
        ("new thing", "3", "", False),
    ]
    assert [j.limit_share for j in found] == [1.0, 0.0, 1.167, 1.2, 0.0]
    [close] = judged({"blur": 0.19996}, screen)
    assert (close.value, close.limit) == ("0.19996", "at least 0.2")


def test_views_are_front_side_and_rear():
    yaw = pd.Series(np.radians([0, -44, 46, -134, 136, 180, -180]))
    assert numbers.view_of(yaw).tolist() == ["front", "front", "side", "side", "rear", "rear", "rear"]


def test_troubles_show_every_reason_and_failures_first(make_workspace):
    made = make_workspace(count=2)
    data = numbers.gather(made.workspace)
    rows = [
        {"stage": "ingest", "item": f"{i}", "outcome": "rejected", "reason": "too_small", "message": "",
         "retryable": False, "uri": f"file:///{i:04d}.jpg"} for i in range(500)
    ]  # fmt: skip
    frame = pd.concat([pd.DataFrame(rows), data.troubles], ignore_index=True)
    object.__setattr__(data, "troubles", frame)
    shown, total = view.troubles(data)
    assert total == 502 and len(shown) == view.MAX_TROUBLES
    assert shown[0].outcome == "failed" and {t.reason for t in shown} >= {"not_an_image", "no_person"}


def test_an_unwritable_place_is_said(make_workspace, tmp_path):
    made = make_workspace(count=1)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkspaceError, match="the report is not written: cannot write"):
        write_report(made.workspace, tmp_path / "file" / "report")


def test_a_workspace_that_is_half_of_other_settings_is_called_so(made):
    told = []
    made.workspace.write_part("plan", 7, schema.to_table("plan", []), "made")
    text = read(write_report(made.workspace, on_faults=told.append)).text
    assert "This workspace is not finished" in text and "ingest of part 7: missing" in told[0]
    assert all(fault in text for fault in told[0])


def test_the_page_says_what_nobody_stated_and_what_a_release_would_hold(made):
    text = read(write_report(made.workspace, standing=standing(made.workspace))).text
    silent = sum(row["license"] is None for row in made.photos)
    assert f"Nobody has said what {silent} photos may be used for" in text and silent > 1
    assert "phq rights init pictures" in text
    assert "Nobody has reviewed yet" in text and "people shown agree: unknown" in text
    first, second = standing(made.workspace).outlooks
    assert (first.reviewed, first.portraits, second.reviewed) == (True, 0, False)
    assert first.left_out == {"review_undecided": 9, "screened_out": 3}
    assert second.portraits + sum(second.left_out.values()) == 12 and second.left_out["not_permitted"] > 0
    kept = next(row["portrait_id"] for row in made.screened if row["kept"])
    vote = Decision(
        decision_id=decisions.ulid(), portrait_id=kept, verdict="accept", reason="", reviewer="ann",
        time=datetime.datetime.now(datetime.UTC), seconds=1.0, client="",
    )  # fmt: skip
    decisions.append(made.workspace, [vote])
    page = read(write_report(made.workspace, standing=standing(made.workspace)))
    card = next(attrs for tag, attrs in page.tags if attrs.get("id") == f"p-{kept}")
    assert "verdict-accepted" in card["class"].split() and "Nobody has reviewed yet" not in page.text


def test_a_preview_writes_nothing(made):
    before = made.workspace.sizes("tables") | made.workspace.sizes("releases")
    standing(made.workspace)
    assert made.workspace.sizes("tables") | made.workspace.sizes("releases") == before
    assert not made.workspace.exists("shelves.json")


def test_limits_are_drawn_where_they_lie_on_the_scale(made):
    resolution, head, doubt = quality.distributions(numbers.gather(made.workspace))
    [(at, what)] = doubt.marks
    assert at == pytest.approx(35.0) and what == "limit: at most 0.35"
    assert resolution.marks[0][0] == pytest.approx(100 * np.log(0.25 / 0.0625) / np.log(16 / 0.0625))
    assert head.marks[0][1] == "limit: at least 30.1"  # 50 pixels a window: 60 % of it
    for plot in (resolution, head, doubt):
        kept, rejected = (sum(bar.counts[n] for bar in plot.bars) for n in (0, 1))
        assert (kept, rejected) == (9, 3)


def test_a_head_is_measured_by_the_label_and_the_window(made):
    portraits = numbers.gather(made.workspace).portraits
    row = made.portraits[0]
    focal, distance = 5000 / 1024 / 0.75, np.linalg.norm(np.array(row["camera"][:16]).reshape(4, 4)[:3, 3])
    wanted = 0.25 * focal / distance * row["window"][2]
    assert portraits.at[row["portrait_id"], "head_pixels"] == pytest.approx(wanted, rel=1e-5)


def test_coverage_counts_distinct_portraits_in_sectors_around_their_middles(made):
    data = numbers.gather(made.workspace)
    found = quality.coverage(data, target=2)
    assert sum(one.count for one in found.sectors) == data.distinct and found.target == 2
    middles = np.array([float(one.name[:-1]) for one in found.sectors])
    for yaw in np.degrees(data.kept["yaw"][data.kept["duplicate_of"] == ""]):
        near = np.flatnonzero(np.abs((middles - yaw + 180) % 360 - 180) < 15.001)
        assert any(found.sectors[one].count for one in near)
    assert "11 of 12 sectors are below 2: 16 more" in found.note


def test_time_on_the_clock_counts_what_runs_side_by_side_once():
    assert numbers.union([(0.0, 4.0), (2.0, 5.0), (7.0, 8.0), (7.5, 7.6)]) == pytest.approx(6.0)
    assert np.isnan(numbers.union(None))


def test_the_gallery_is_filtered_without_a_script(made, tmp_path):
    page = write_report(made.workspace, tmp_path, standing=standing(made.workspace))
    with chromium() as browser:
        shown = browser.new_page()
        shown.goto(f"file://{page}")
        cards = shown.locator("#kept .card:visible")
        yaw = {f"p-{row['portrait_id']}": abs(np.degrees(row["yaw"])) for row in made.portraits}
        assert cards.count() == 9
        shown.locator("#kept input[name=view][value=front]").check(force=True)
        ids = cards.evaluate_all("all => all.map(one => one.id)")
        assert 0 < len(ids) < 9 and all(yaw[one] <= 45 for one in ids)
        shown.locator("#kept input[name=view][value=all]").check(force=True)
        assert cards.count() == 9
        for width in (1366, 390):
            shown.set_viewport_size({"width": width, "height": 800})
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
