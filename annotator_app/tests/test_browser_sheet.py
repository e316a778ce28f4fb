"""The contact sheet in a real browser: portraits selected, decided by one key, taken back by one undo."""

import shutil

import pytest
from browser import LAPTOP, PHONE, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

pytestmark = pytest.mark.slow
TILES = "#sheet-tiles li"
SEEN = "count => /^\\d+/.exec(document.getElementById('sheet-told').textContent)?.[0] >= count"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures") / "workspace"
    make_workspace(folder, 260, size=128, faces=300, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    return folder


@pytest.fixture
def service(template, tmp_path):
    folder = tmp_path / "workspace"
    shutil.copytree(template, folder)
    with Served(folder) as started:
        yield started


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=LAPTOP, service_workers="block")
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    yield opened
    context.close()
    assert opened.problems == []


def open_sheet(page, service, tiles=24, seen=12):
    """Open the sheet with so many portraits a page, and wait until some of them can be judged."""
    page.goto(service.url)
    page.evaluate("count => localStorage.setItem('phq-sheet', count)", str(tiles))
    page.reload()
    wait_ready(page)
    page.keyboard.press("g")
    until(page, "count => document.querySelectorAll('#sheet-tiles li').length >= count", tiles)
    until(page, SEEN, seen)


def ids(page):
    """Of the tiles, in order."""
    return page.evaluate("[...document.querySelectorAll('#sheet-tiles li')].map((one) => one.dataset.id)")


def selected(page):
    return page.evaluate("window.phqReview.selected()")


def look_at_all(page):
    """Scroll through the page, again and again, until every tile was in view with its mesh."""
    until(
        page,
        """() => {
          const list = document.getElementById("sheet-tiles");
          const end = list.scrollTop + list.clientHeight >= list.scrollHeight - 2;
          list.scrollTop = end ? 0 : list.scrollTop + 40;
          return new Set(document.getElementById("sheet-told").textContent.match(/\\d+/g)).size === 1;
        }""",
    )


def gone(page, *portraits):
    until(page, "gone => !gone.some((id) => document.getElementById(`tile-${id}`))", list(portraits))


def test_selected_portraits_are_accepted_at_once_and_one_undo_takes_them_back(service, page):
    open_sheet(page, service)
    shown = ids(page)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    wanted = [shown[0], *shown[2:5]]
    assert sorted(selected(page)) == sorted(wanted)
    assert page.get_attribute(f"#tile-{shown[0]}", "aria-selected") == "true"
    page.keyboard.press("a")
    gone(page, *wanted)
    wait_saved(page)
    assert service.log() == [(one, "accept", "", "ann") for one in wanted]
    assert ids(page) == [one for one in shown if one not in wanted], "nothing comes before the page is done"
    clients = {row[0] for row in service.query("SELECT DISTINCT client FROM decisions")}
    assert clients == {"sheet/phq-review-page/2"}
    page.keyboard.press("u")
    until(page, "id => document.getElementById(`tile-${id}`)", wanted[0])
    wait_saved(page)
    assert service.standing() == {}
    assert [row[1] for row in service.log()][4:] == ["undo"] * 4
    assert ids(page)[:4] == wanted and sorted(selected(page)) == sorted(wanted)


def test_a_range_is_rejected_with_one_reason_and_undone_in_the_loop_after_a_reload(service, page):
    open_sheet(page, service)
    shown = ids(page)
    page.click(f"#tile-{shown[1]}")
    page.click(f"#tile-{shown[3]}", modifiers=["Shift"])
    page.keyboard.press("x")
    page.wait_for_selector("#reasons[open]")
    page.keyboard.press("4")
    gone(page, *shown[1:4])
    wait_saved(page)
    assert service.log() == [(one, "reject", "occluded", "ann") for one in shown[1:4]]
    page.keyboard.press("Escape")
    page.wait_for_selector("#sheet", state="hidden")
    assert decide(page, "a") == shown[0]
    page.reload()
    wait_ready(page)
    page.keyboard.press("u")  # the accept of the loop alone
    assert wait_ready(page, other_than=page.evaluate("document.body.dataset.ready")) == shown[0]
    wait_saved(page)
    assert service.standing() == dict.fromkeys(shown[1:4], "reject")
    page.keyboard.press("u")
    assert wait_ready(page, other_than=shown[0]) == shown[1]
    wait_saved(page)
    assert service.standing() == {}


def test_with_nothing_selected_a_key_means_the_portrait_at_the_cursor_alone(service, page):
    open_sheet(page, service)
    shown = ids(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    gone(page, shown[1])
    wait_saved(page)
    assert service.standing() == {shown[1]: "accept"}


def test_select_all_takes_what_was_seen_and_a_finished_page_is_followed_by_the_next(service, page):
    open_sheet(page, service, tiles=96)
    assert len(ids(page)) == 96
    page.keyboard.press("Control+a")
    first = selected(page)
    assert 12 <= len(first) < 96
    assert "not in view" in page.inner_text("#toast")
    page.keyboard.press("a")
    gone(page, *first)
    look_at_all(page)
    page.keyboard.press("Control+a")
    assert len(selected(page)) == 96 - len(first)
    page.keyboard.press("a")
    until(page, "document.querySelectorAll('#sheet-tiles li').length === 96")
    wait_saved(page)
    assert len(service.standing()) == 96 and not set(service.standing()) & set(ids(page))


def test_enter_opens_the_portrait_in_the_loop_and_escape_goes_back(service, page):
    open_sheet(page, service)
    shown = ids(page)
    page.keyboard.press("ArrowDown")
    at = page.evaluate("document.querySelector('#sheet-tiles .cursor').dataset.id")
    assert at in shown[4:]
    page.keyboard.press("Enter")
    until(page, "id => document.body.dataset.ready === id", at)
    assert page.is_hidden("#sheet") and page.is_visible("#stage")
    assert decide(page, "a") == at
    page.keyboard.press("g")
    until(page, "() => document.querySelectorAll('#sheet-tiles li').length > 0")
    assert at not in ids(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#sheet", state="hidden")
    assert decide(page, "a") == shown[0]
    wait_saved(page)
    assert service.standing() == {at: "accept", shown[0]: "accept"}


def test_without_network_batches_and_their_undo_are_delivered_later(service, page):
    open_sheet(page, service)
    shown = ids(page)
    page.context.set_offline(True)
    for at in (0, 3):
        page.click(f"#tile-{shown[at]}")
        page.click(f"#tile-{shown[at + 2]}", modifiers=["Shift"])
        page.keyboard.press("a")
        gone(page, *shown[at : at + 3])
    page.keyboard.press("u")
    until(page, "id => document.getElementById(`tile-${id}`)", shown[3])
    page.wait_for_selector("#saving[data-state=offline]")
    assert service.log() == []
    page.context.set_offline(False)
    wait_saved(page)
    assert service.standing() == dict.fromkeys(shown[:3], "accept")


def test_what_another_tab_decided_leaves_the_sheet_and_is_not_decided_twice(service, page):
    open_sheet(page, service)
    shown = ids(page)
    other = page.context.new_page()
    other.goto(f"{service.url}/?portrait={shown[2]}")
    until(other, "id => document.body.dataset.ready === id", shown[2])
    page.click(f"#tile-{shown[2]}")
    decide(other, "a")
    gone(page, shown[2])
    assert selected(page) == []
    other.close()


def test_200_portraits_stay_fluid(service, page):
    open_sheet(page, service, tiles=200)
    page.evaluate(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) =>"
        " (window.longest = Math.max(window.longest, one.duration))))"
        ".observe({type: 'event', durationThreshold: 16})"
    )
    for _ in range(40):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("a")
    until(page, "document.querySelectorAll('#sheet-tiles li').length < 200")
    assert page.evaluate("window.longest") < 1500  # milliseconds, on a machine that others keep busy


def test_fingers_select_and_decide(service, browser):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = context.new_page()
    page.goto(service.url)
    wait_ready(page)
    page.tap("[data-action=openSheet]")
    until(page, SEEN, 6)
    shown = ids(page)
    page.tap(f"#tile-{shown[0]}")
    page.tap(f"#tile-{shown[1]}")
    page.tap("[data-sheet=accept]")
    gone(page, *shown[:2])
    wait_saved(page)
    assert service.standing() == dict.fromkeys(shown[:2], "accept")
    page.tap("[data-sheet=leave]")
    page.wait_for_selector("#stage")
    context.close()
