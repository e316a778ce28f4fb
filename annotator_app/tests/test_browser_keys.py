"""The keys of the review page in a real browser: places, notes, reasons, and keys of one's own."""

import pytest
from browser import LAPTOP, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

PRESS = """([code, key, more]) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {code, key, bubbles: true, cancelable: true, ...more}))"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / "workspace"
    make_workspace(folder, 120, size=128, faces=300, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder) as started:
        yield started


@pytest.fixture
def service(running):
    running.mark()
    return running


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=LAPTOP)
    yield context.new_page()
    context.close()


def press(page, code, key, **more):
    """A key of a layout that this browser does not have."""
    page.evaluate(PRESS, [code, key, more])


def log(service):
    columns = "portrait_id, verdict, reason, COALESCE(note, '')"
    return service.query(f"SELECT {columns} FROM decisions WHERE seq > ? ORDER BY seq", service.first)


def test_a_russian_layout_decides_by_the_places_of_the_keys(service, page):
    page.goto(service.url)
    first = wait_ready(page)
    press(page, "KeyA", "ф")
    second = wait_ready(page, other_than=first)
    press(page, "KeyX", "ч")
    press(page, "Digit2", "2")
    third = wait_ready(page, other_than=second)
    press(page, "", "a")  # a keyboard on a screen tells no place
    wait_ready(page, other_than=third)
    press(page, "KeyH", "?", shiftKey=True)  # wherever a layout has it
    assert page.is_visible("#help")
    wait_saved(page)
    wanted = [(first, "accept", ""), (second, "reject", "blur"), (third, "accept", "")]
    assert [row[:3] for row in log(service)] == wanted


def test_letters_after_f_are_the_note_and_decide_nothing(service, page):
    page.goto(service.url)
    first = wait_ready(page)
    page.keyboard.type("faxa xus?")
    assert page.is_visible("#note") and wait_ready(page) == first
    page.keyboard.press("Enter")
    wait_ready(page, other_than=first)
    wait_saved(page)
    assert log(service) == [(first, "flag", "", "axa xus?")]


def test_a_note_begun_before_the_portrait_is_painted_decides_nothing(service, page):
    page.goto(service.url)
    first = wait_ready(page)
    page.evaluate("document.addEventListener('keydown', event => event.key === 'a' && (window.soon = true))")
    # Both keys in one task: the second portrait cannot be painted in between.
    page.evaluate(f"""() => {{ const press = {PRESS};
      press(["KeyA", "a", {{}}]); press(["KeyF", "f", {{}}]); }}""")
    second = wait_ready(page, other_than=first)
    page.keyboard.type("axa")
    assert wait_ready(page) == second and page.is_hidden("#note")
    page.wait_for_timeout(1100)
    decide(page, "a")
    wait_saved(page)
    assert [row[:2] for row in log(service)] == [(first, "accept"), (second, "accept")]


def test_a_key_counts_at_once_after_a_dialog_is_closed(service, page):
    """Its text field keeps the focus until the next frame, and a quick hand is faster."""
    page.goto(service.url)
    wait_ready(page)
    page.keyboard.press("f")
    page.wait_for_selector("#note[open]")
    page.evaluate(
        """() => {
          document.getElementById("note").close();
          const more = {code: "KeyH", key: "h", bubbles: true, cancelable: true};
          document.getElementById("note-text").dispatchEvent(new KeyboardEvent("keydown", more));
        }"""
    )
    page.wait_for_selector("#help[open]")


def test_x_twice_gives_the_last_reason_that_stands_also_after_a_reload(service, page):
    page.goto(service.url)
    first = decide(page, "x", "7")
    second = decide(page, "x", "2")
    now = wait_ready(page)
    page.keyboard.press("u")  # the second does not stand any more
    assert wait_ready(page, other_than=now) == second
    decide(page, "x", "x")
    wait_saved(page)
    page.reload()
    until(page, "document.querySelectorAll('#strip button').length > 1")
    third = decide(page, "x", "x")
    fourth = wait_ready(page)
    for key in ("x", "6"):
        page.keyboard.press(key)
    page.keyboard.type("two heads")
    page.keyboard.press("Enter")
    fifth = wait_ready(page, other_than=fourth)
    for key in ("x", "x", "Enter"):
        page.keyboard.press(key)
    wait_ready(page, other_than=fifth)
    wait_saved(page)
    assert [row for row in log(service) if row[1] == "reject"] == [
        (first, "reject", "sides", ""),
        (second, "reject", "blur", ""),
        (second, "reject", "sides", ""),
        (third, "reject", "sides", ""),
        (fourth, "reject", "other", "two heads"),
        (fifth, "reject", "other", "two heads"),
    ]


def test_a_key_of_ones_own_outlives_a_reload_and_is_shown(service, page):
    page.goto(service.url)
    wait_ready(page)
    page.keyboard.press("?")
    page.click("[data-choose=accept]")
    page.keyboard.press("Tab")
    assert "cannot be chosen" in page.inner_text("#key-told")
    page.click("[data-choose=accept]")
    page.keyboard.press("s")  # it has a meaning: the two change places
    assert "Skip" in page.inner_text("#key-told")
    page.reload()
    first = wait_ready(page)
    assert (
        page.inner_text("[data-action=accept] kbd") == "S"
        and page.inner_text("[data-action=skip] kbd") == "A"
    )
    decide(page, "s")
    now = wait_ready(page)
    page.keyboard.press("a")
    wait_ready(page, other_than=now)  # skipped
    page.keyboard.press("?")
    page.click("#key-reset")
    page.keyboard.press("Escape")
    second = wait_ready(page)
    decide(page, "a")
    wait_saved(page)
    assert [row[:2] for row in log(service)] == [(first, "accept"), (second, "accept")]
    page.evaluate("""localStorage.setItem("phq-keys", '{"accept": 5, "nothing": ["KeyQ"], "skip": []}')""")
    page.reload()
    wait_ready(page)
    assert page.inner_text("[data-action=accept] kbd") == "A"  # what is no choice is no choice
