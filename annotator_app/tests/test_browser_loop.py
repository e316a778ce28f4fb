"""The review page in a real browser against the real service: what is shown as saved is in the database."""

import shutil
import signal
import sqlite3
import subprocess
import time
from datetime import UTC, datetime

import pytest
from browser import CHROMIUM, FLAGS, LAPTOP, PHONE, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace
from phq_data.review.decisions import ulid

PORTRAITS = 240
AHEAD = "window.phqReview.ahead() >= 11"  # portraits are available for a while without network


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures") / "workspace"
    make_workspace(folder, PORTRAITS, size=128, faces=300, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    return folder


@pytest.fixture
def workspace(template, tmp_path):
    folder = tmp_path / "workspace"
    shutil.copytree(template, folder)
    return folder


@pytest.fixture(scope="module")
def running(template, tmp_path_factory):
    """One service for the tests that only add to its log."""
    folder = tmp_path_factory.mktemp("shared") / "workspace"
    shutil.copytree(template, folder)
    with Served(folder) as started:
        yield started


@pytest.fixture
def service(running):
    running.mark()  # its log begins here
    return running


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=LAPTOP, service_workers="block")
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    yield opened
    context.close()
    assert opened.problems == []


@pytest.mark.slow
def test_200_decisions_by_keyboard_with_reload_and_20_undone_are_in_the_database(workspace, page):
    wanted = {}
    with Served(workspace) as service:
        page.goto(service.url)
        for number in range(200):
            keys: tuple[str, ...] = ("a",)
            verdict = "accept"
            if number % 5 == 3:
                keys, verdict = ("x", "4"), "reject"
            elif number % 31 == 7:
                keys, verdict = ("f", "Enter"), "flag"
            wanted[decide(page, *keys)] = verdict
            if number == 100:
                page.reload()
                wait_ready(page)
                until(
                    page, "document.querySelectorAll('#strip button').length === 12"
                )  # the service's history
        page.reload()
        taken_back = list(wanted)[-20:]
        for portrait in reversed(taken_back):
            now = wait_ready(page)
            page.keyboard.press("u")
            assert wait_ready(page, other_than=now) == portrait
        wait_saved(page)
        assert len(wanted) == 200
        verdicts = [row[1] for row in service.log()]
        assert len(verdicts) == 220 and verdicts.count("undo") == 20
        assert service.standing() == {p: v for p, v in wanted.items() if p not in taken_back}
        reasons = {row[2] for row in service.log() if row[1] == "reject"}
        assert reasons == {"occluded"}  # key 4
        paints = page.evaluate("window.phqReview.paints()")
        assert all(0 < milliseconds < 5000 for milliseconds in paints)


def test_two_reviewers_at_once_share_the_queue_and_never_a_portrait(workspace, browser):
    with Served(workspace, password="a long password") as service:
        pages = []
        for name in ("bea", "cem"):
            context = browser.new_context(viewport=LAPTOP)
            answer = context.request.post(
                f"{service.url}/api/login",
                data={"name": name, "password": "a long password"},
                headers={"X-PHQ": "2"},
            )
            assert answer.ok, answer.text()
            opened = context.new_page()
            opened.goto(service.url)
            pages.append(opened)
        for _ in range(12):
            for opened in pages:
                decide(opened, "a")
        for opened in pages:
            wait_saved(opened)
            opened.context.close()
        log = service.log()
        assert [row[3] for row in log].count("bea") == 12 and [row[3] for row in log].count("cem") == 12
        assert len({row[0] for row in log}) == 24


def test_without_network_the_loop_goes_on_and_delivers_later_in_order(service, page):
    page.goto(service.url)
    wait_ready(page)
    until(page, AHEAD)
    page.context.set_offline(True)
    decided = [decide(page, "a") for _ in range(9)]
    page.wait_for_selector("#saving[data-state=offline]")
    assert "cannot be reached" in page.inner_text("#banner")
    assert service.log() == []
    page.context.set_offline(False)
    wait_saved(page)
    assert [row[0] for row in service.log()] == decided
    assert page.is_hidden("#banner")


SLOW_DISK = """() => {
  const begin = IDBDatabase.prototype.transaction;
  IDBDatabase.prototype.transaction = function (names, mode, options) {
    const made = begin.call(this, names, mode, options);
    if (mode === "readonly") Object.defineProperty(made, "oncomplete", {
      set(told) { made.addEventListener("complete", () => setTimeout(told, 150)); },
    });
    return made;
  };
}"""


def test_nothing_decided_while_the_browsers_disk_is_read_is_lost_or_comes_back(service, page):
    page.add_init_script(f"({SLOW_DISK})()")
    page.goto(service.url)
    done = int(page.evaluate("wait => document.getElementById('done').textContent", wait_ready(page)))
    decided = [decide(page, "a") for _ in range(27)]
    for portrait in reversed(decided[-3:]):
        now = wait_ready(page)
        page.keyboard.press("u")
        assert wait_ready(page, other_than=now) == portrait
        assert page.is_hidden("#verdict")  # it is no longer "accepted", whatever the service knows
    wait_saved(page)
    wanted = [(portrait, "accept") for portrait in decided]
    wanted += [(portrait, "undo") for portrait in reversed(decided[-3:])]
    assert [row[:2] for row in service.log()] == wanted
    assert int(page.inner_text("#done")) == done + 24
    page.reload()
    now = wait_ready(page)
    until(page, "wanted => document.getElementById('done').textContent === wanted", str(done + 24))
    page.keyboard.press("u")
    assert wait_ready(page, other_than=now) == decided[23]
    wait_saved(page)
    assert int(page.inner_text("#done")) == done + 23 and len(service.log()) == 31


def test_unsent_decisions_survive_a_reload_while_the_service_is_away(service, page):
    page.goto(service.url)
    wait_ready(page)
    until(page, AHEAD)
    page.route("**/api/decisions", lambda route: route.abort())
    decided = [decide(page, "a"), decide(page, "x", "2"), decide(page, "f", "Enter")]
    page.wait_for_selector("#saving[data-state=offline]")
    page.reload()
    assert wait_ready(page) not in decided
    assert page.evaluate("window.phqReview.waiting()") == 3
    page.unroute("**/api/decisions")
    wait_saved(page)
    verdicts = [(row[0], row[1]) for row in service.log()]
    assert verdicts == list(zip(decided, ("accept", "reject", "flag"), strict=True))


STUCK_DISK = """() => {
  const make = IDBDatabase.prototype.transaction;
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    if (mode !== "readwrite") return make.call(this, stores, mode, options);
    return { objectStore: () => ({ put: () => ({}), delete: () => ({}) }) };  // never done
  };
}"""


def test_decisions_survive_a_reload_before_the_disk_has_them(service, page):
    page.goto(service.url)
    wait_ready(page)
    until(page, AHEAD)
    page.evaluate(STUCK_DISK)
    decided = [decide(page, "a"), decide(page, "x", "2"), decide(page, "f", "Enter")]
    assert service.log() == []
    page.reload()
    assert wait_ready(page) not in decided
    wait_saved(page)
    verdicts = [(row[0], row[1]) for row in service.log()]
    assert verdicts == list(zip(decided, ("accept", "reject", "flag"), strict=True))
    left = "Object.keys(localStorage).filter(name => name.startsWith('phq-outbox/')).length"
    assert page.evaluate(left) == 0


def test_what_is_delivered_while_the_history_is_on_its_way_can_be_undone_first(service, page):
    page.goto(service.url)
    wait_ready(page)
    until(page, AHEAD)
    page.evaluate(STUCK_DISK)
    decided = [decide(page, "a"), decide(page, "f", "Enter")]
    kept = []

    def late(route):
        """The service's history as it was before the delivery, told after it."""
        if kept:
            route.continue_()
            return
        kept.append(route.fetch())
        deadline = time.monotonic() + 90
        while len(service.log()) < 2 and time.monotonic() < deadline:
            page.wait_for_timeout(20)
        route.fulfill(response=kept[0])

    page.route("**/api/history*", late)
    page.route("**/api/decisions", lambda route: (until_true(lambda: kept, page), route.continue_()))
    page.reload()
    now = wait_ready(page)
    wait_saved(page)
    until(page, "document.querySelectorAll('#strip button').length > 1")
    page.keyboard.press("u")
    assert wait_ready(page, other_than=now) == decided[1]
    wait_saved(page)
    page.unroute_all(behavior="wait")


def until_true(condition, page):
    """Wait, with the browser served meanwhile, until a condition of this test holds."""
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def test_a_killed_service_loses_nothing_and_saves_nothing_twice(workspace, page):
    with Served(workspace) as service:
        page.goto(service.url)
        decided = [decide(page, "a") for _ in range(4)]
        until(page, AHEAD)
        service.kill()
        decided += [decide(page, "x", "1") for _ in range(3)]
        page.wait_for_selector("#saving[data-state=offline]")
        service.start()
        wait_saved(page)
        assert [row[0] for row in service.log()] == decided


def test_an_answer_lost_on_the_way_does_not_save_a_decision_twice(service, page):
    page.goto(service.url)
    wait_ready(page)
    lost = []

    def lose(route):
        if len(lost) < 2:
            lost.append(route.fetch().status)  # the service has it; the page never hears
            route.abort()
        else:
            route.continue_()

    page.route("**/api/decisions", lose)
    decided = decide(page, "a")
    wait_saved(page)
    assert lost == [200, 200]
    assert [row[0] for row in service.log()] == [decided]


def test_a_killed_browser_delivers_what_it_kept_when_it_is_opened_again(workspace, tmp_path, browser):
    from playwright.sync_api import Error

    def started(port):
        flags = [*FLAGS, "--headless=new", f"--user-data-dir={tmp_path / 'profile'}"]
        process = subprocess.Popen(
            [CHROMIUM, *flags, f"--remote-debugging-port={port}", "about:blank"], stderr=subprocess.DEVNULL
        )
        for _ in range(900):
            try:
                return process, browser.browser_type.connect_over_cdp(f"http://127.0.0.1:{port}")
            except Error:
                time.sleep(0.1)
        raise AssertionError("Chromium did not start")

    with Served(workspace) as service:
        process, first = started(service.settings.port + 1)
        page = first.contexts[0].pages[0]
        page.goto(service.url)
        wait_ready(page)
        until(page, AHEAD)
        service.kill()
        decided = [decide(page, "a") for _ in range(3)]
        page.evaluate("window.phqReview.written()")
        process.send_signal(signal.SIGKILL)
        process.wait(90)
        service.start()
        assert service.log() == []
        process, second = started(service.settings.port + 2)
        try:
            page = second.contexts[0].pages[0]
            page.goto(service.url)
            assert wait_ready(page) not in decided
            wait_saved(page)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(90)
        assert [row[0] for row in service.log()] == decided


@pytest.mark.slow
def test_a_locked_database_is_told_and_overcome(workspace, page):
    with Served(workspace) as service:
        page.goto(service.url)
        wait_ready(page)
        until(page, AHEAD)
        other = sqlite3.connect(service.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        decided = decide(page, "a")
        page.wait_for_selector("#saving[data-state=busy]", timeout=90_000)
        assert "in use by another program" in page.inner_text("#banner")
        other.execute("ROLLBACK")
        other.close()
        wait_saved(page)
        assert [row[0] for row in service.log()] == [decided]


def test_a_reason_in_own_words_is_stored_as_written(service, page):
    words = "<img src=x onerror=alert(1)> 'quoted' ünï"
    page.goto(service.url)
    before = wait_ready(page)
    page.keyboard.press("x")
    page.keyboard.press("6")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    wait_ready(page, other_than=before)
    wait_saved(page)
    assert service.query("SELECT reason, note FROM decisions ORDER BY seq DESC LIMIT 1") == [("other", words)]


def test_escape_leaves_a_rejection_and_a_held_key_decides_once(service, page):
    page.goto(service.url)
    first = wait_ready(page)
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    assert wait_ready(page) == first
    page.keyboard.down("a")
    for _ in range(5):
        page.keyboard.down("a")  # repeats, as a held key does
    page.keyboard.up("a")
    wait_ready(page, other_than=first)
    wait_saved(page)
    assert [row[:2] for row in service.log()] == [(first, "accept")]


def test_looks_change_what_is_seen_and_space_hides_the_mesh_while_held(service, page):
    page.goto(service.url)
    wait_ready(page)
    visible = "getComputedStyle(document.querySelector('#stage .mesh')).visibility"
    assert page.evaluate(visible) == "visible"
    page.keyboard.down(" ")
    assert page.evaluate(visible) == "hidden"
    page.keyboard.up(" ")
    assert page.evaluate(visible) == "visible"
    page.keyboard.press("o")
    assert page.evaluate(visible) == "hidden"
    assert page.get_attribute("#look-overlay", "aria-pressed") == "false"
    page.keyboard.press("]")
    opacity = page.evaluate("getComputedStyle(document.querySelector('#stage .mesh')).opacity")
    assert page.evaluate(visible) == "visible" and float(opacity) == pytest.approx(0.6)
    page.keyboard.press("m")
    until(page, "document.querySelector('#stage .mask').naturalWidth > 0")
    page.keyboard.press("z")
    assert page.get_attribute("#look-zoom", "aria-pressed") == "true"
    page.keyboard.press("?")
    assert page.is_visible("#help") and "shoulders" in page.inner_text("#help")


def test_an_earlier_decision_can_be_looked_at_and_decided_anew(service, page):
    page.goto(service.url)
    first = decide(page, "a")
    now = wait_ready(page)
    page.click("#strip button")
    assert wait_ready(page, other_than=now) == first
    assert page.inner_text("#verdict") == "you accepted it"
    assert decide(page, "x", "1") == first
    assert wait_ready(page) == now  # on with what was there before
    wait_saved(page)
    assert service.standing()[first] == "reject"
    assert [row[1] for row in service.log()] == ["accept", "reject"]


def test_a_link_shows_its_portrait_and_the_queue_goes_on(service, page):
    page.goto(service.url)
    first = wait_ready(page)
    last = service.query("SELECT portrait_id FROM items WHERE pool = 0 ORDER BY error_probability LIMIT 1")[
        0
    ][0]
    assert last != first
    page.goto(f"{service.url}/?portrait={last}")
    until(page, "id => document.body.dataset.ready === id", last)
    until(page, "location.search === ''")  # a reload goes on with the queue
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("k")
    until(page, "document.getElementById('toast').textContent.includes('copied')")
    assert page.evaluate("navigator.clipboard.readText()") == f"{service.url}/?portrait={last}"
    assert decide(page, "a") == last
    assert wait_ready(page) != last  # on with the queue
    page.goto(f"{service.url}/?portrait={'0' * 32}")
    wait_ready(page)
    assert "Portrait 00000000 cannot be shown" in page.inner_text("#toast")


def test_a_phone_decides_by_swipe_and_button_and_nothing_sticks_out(service, browser):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = context.new_page()
    page.goto(service.url)
    first = wait_ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    _swipe(page, 200)
    second = wait_ready(page, other_than=first)
    _swipe(page, -200)
    page.wait_for_selector("#reasons[open]")
    for _ in range(10):  # a tap in the moment of letting go, which a busy machine prolongs, does not count
        page.wait_for_timeout(400)
        page.tap("#reason-list button:nth-child(2)")
        page.wait_for_timeout(100)
        if page.query_selector("#reasons[open]") is None:
            break
    third = wait_ready(page, other_than=second)
    page.tap("[data-action=accept]")
    fourth = wait_ready(page, other_than=third)
    _swipe(page, 30)  # too short to mean it
    assert wait_ready(page) == fourth
    for name in ("[data-action=accept]", "[data-action=reject]", "#stage"):
        box = page.locator(name).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= PHONE["height"], name
        assert box["height"] >= 44
    wait_saved(page)
    wanted = [(first, "accept", ""), (second, "reject", "blur"), (third, "accept", "")]
    assert [row[:3] for row in service.log()] == wanted
    context.close()


def _swipe(page, distance):
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    touch("touchStart", {"x": x, "y": y})
    for step in range(1, 9):
        touch("touchMove", {"x": x + distance * step / 8, "y": y})
    touch("touchEnd")
    session.detach()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_readable_and_every_control_has_a_name(service, browser, scheme):
    context = browser.new_context(viewport=LAPTOP, color_scheme=scheme)
    page = context.new_page()
    page.goto(service.url)
    wait_ready(page)
    for selector in (
        ".criterion",
        "[data-action=accept]",
        "[data-action=reject]",
        ".progress .numbers",
        "#saving-text",
    ):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 19, 22)"
    assert dark == (scheme == "dark")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter(e => !(e.innerText.trim()"
        " || e.getAttribute('aria-label') || e.labels?.length || e.hidden)).map(e => e.outerHTML)"
    )
    assert nameless == []
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    context.close()


CONTRAST = """selector => {
  const numbers = color => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = rgb => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  let element = document.querySelector(selector);
  const ink = light(numbers(getComputedStyle(element).color));
  const clear = 'rgba(0, 0, 0, 0)';
  while (element && getComputedStyle(element).backgroundColor === clear) element = element.parentElement;
  const ground = light(numbers(element ? getComputedStyle(element).backgroundColor : 'white'));
  return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}"""


# ---- two clients of one reviewer -------------------------------------------------------------------------


def open_page(service, context):
    opened = context.new_page()
    opened.goto(service.url)
    wait_ready(opened)
    return opened


def send_elsewhere(service, page, portrait, verdict="flag"):
    """A decision of the same reviewer by a client that is no page."""
    one = {"decision_id": ulid(), "portrait_id": portrait, "verdict": verdict, "client": "elsewhere"}
    answer = page.context.request.post(
        f"{service.url}/api/decisions",
        data={"decisions": [{**one, "time": datetime.now(UTC).isoformat()}]},
        headers={"X-PHQ": "2"},
    )
    assert answer.ok and answer.json()["saved"], answer.text()


def test_a_second_tab_goes_on_when_the_first_decides_its_portrait(service, page, browser):
    page.goto(service.url)
    shown = wait_ready(page)
    other = open_page(service, page.context)
    other.evaluate("id => window.phqReview.recall(id)", shown)
    until(other, "id => document.body.dataset.ready === id", shown)
    assert decide(page, "a") == shown
    until(other, "id => document.body.dataset.ready && document.body.dataset.ready !== id", shown)
    assert "You decided this portrait elsewhere: accept" in other.inner_text("#toast")
    decide(other, "x", "2")
    wait_saved(other)
    wait_saved(page)
    assert [row[1] for row in service.log() if row[0] == shown] == ["accept"]


def test_the_page_follows_what_another_client_decides(service, page):
    page.goto(service.url)
    shown = wait_ready(page)
    send_elsewhere(service, page, shown)
    until(page, "id => document.body.dataset.ready && document.body.dataset.ready !== id", shown)
    assert shown in page.inner_html("#strip")
    # Undo takes back the last decision, wherever it was made, and the portrait comes back.
    page.keyboard.press("u")
    until(page, "id => document.body.dataset.ready === id", shown)
    wait_saved(page)
    assert [row[1] for row in service.log() if row[0] == shown] == ["flag", "undo"]


def test_a_key_before_the_page_could_know_overwrites_nothing(service, page):
    page.goto(service.url)
    shown = wait_ready(page)
    page.route("**/api/history*", lambda route: route.abort())  # it never hears of it
    send_elsewhere(service, page, shown)
    decide(page, "a")
    page.wait_for_selector("#banner-button:has-text('Look at it')")
    assert "you decided it elsewhere meanwhile" in page.inner_text("#banner")
    assert [row[1] for row in service.log() if row[0] == shown] == ["flag"]
    page.unroute("**/api/history*")
    page.click("#banner-button")
    until(page, "id => document.body.dataset.ready === id", shown)
    until(page, "() => document.getElementById('verdict').textContent === 'you flagged it'")
    decide(page, "a")  # now knowingly
    wait_saved(page)
    assert [row[1] for row in service.log() if row[0] == shown] == ["flag", "accept"]
