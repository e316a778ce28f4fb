"""What the review page counts and says, in a real browser."""

import pytest
from browser import LAPTOP, PHONE, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

WORDS = """async (decisions) => {
  const script = document.querySelector("script[type=module]").src;
  const { Throughput } = await import(new URL("throughput.js", script));
  const pace = new Throughput();
  const said = [];
  for (const [seconds, minutes] of decisions) {
    pace.tick(seconds, minutes * 60e3);
    const word = pace.word(minutes * 60e3);
    if (word) said.push([minutes, word]);
  }
  return said;
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counters") / "workspace"
    make_workspace(folder, 60, size=128, faces=300, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0, gold_feedback=True)
    with Served(folder) as started:
        yield started


def test_the_counters_are_those_of_this_queue(service, browser):
    page = browser.new_context(viewport=LAPTOP).new_page()
    page.goto(service.url)
    wait_ready(page)
    total = service.query("SELECT COUNT(*) FROM items WHERE pool = 0")[0][0]
    until(page, "total => document.getElementById('total').textContent === total", str(total))
    for _ in range(5):
        decide(page, "a")
    wait_saved(page)
    left, done = page.inner_text("#left"), page.inner_text("#done")
    assert (int(left), int(done)) == (total - 5, 5)
    track = page.evaluate("[document.getElementById('track').value, document.getElementById('track').max]")
    assert track == [5, total]
    rate = float(page.inner_text("#throughput"))
    told = page.inner_text("#time-left")
    if told != "a minute":
        assert int(told.removesuffix(" min")) == pytest.approx((total - 5) / rate, abs=1)
    page.context.close()


def test_a_gold_item_is_answered_where_the_team_wants_it(service, browser):
    page = browser.new_context(viewport=LAPTOP).new_page()
    page.goto(service.url)
    portrait = wait_ready(page)
    answer = page.context.request.post(
        f"{service.url}/api/gold", data={"verdicts": {portrait: "reject"}}, headers={"X-PHQ": "2"}
    )
    assert answer.ok
    decide(page, "a")
    until(page, "document.getElementById('toast').textContent.includes('it should be rejected')")
    page.context.close()


def test_a_gentle_word_comes_after_fast_rows_and_long_hours_and_not_again_at_once(service, browser):
    page = browser.new_context(viewport=LAPTOP).new_page()
    page.goto(service.url)
    wait_ready(page)
    fast = [[0.3, at / 100] for at in range(50)]
    [[when, word]] = page.evaluate(WORDS, fast)
    assert when == 0.19 and "20 decisions took less than 0.7 s each" in word
    assert page.evaluate(WORDS, [[0.3 if at % 15 else 2, at / 100] for at in range(100)]) == []
    steady = [[3, minute] for minute in range(62)]
    [[when, word]] = page.evaluate(WORDS, steady)
    assert when == 51 and "without a break" in word
    with_breaks = [[3, minute + (10 if minute > 30 else 0)] for minute in range(62)]
    assert page.evaluate(WORDS, with_breaks) == []
    page.context.close()


def test_offline_the_strip_has_no_broken_images(service, browser):
    page = browser.new_context(viewport=LAPTOP, service_workers="block").new_page()
    page.goto(service.url)
    wait_ready(page)
    until(page, "window.phqReview.ahead() >= 5")
    page.context.set_offline(True)
    decide(page, "a")
    until(page, "document.querySelectorAll('#strip img:not([src])').length === 1")
    page.context.set_offline(False)
    until(page, "[...document.querySelectorAll('#strip img')].every(one => one.naturalWidth > 0)")
    page.context.close()


def test_fingers_find_targets_of_44_pixels(service, browser):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = context.new_page()
    page.goto(service.url)
    wait_ready(page)
    small = """() => [...document.querySelectorAll('button, summary, a.quiet, input')]
      .filter(one => one.offsetParent && !one.closest('.skip-link'))
      .map(one => [one.outerHTML.slice(0, 60), one.getBoundingClientRect()])
      .filter(([, box]) => box.width < 44 || box.height < 44)
      .map(([html, box]) => [html, box.width, box.height])"""
    assert page.evaluate(small) == []
    page.tap("[data-action=choose]")
    assert page.evaluate(small.replace("offsetParent", "offsetParent && one.type !== 'radio'")) == []
    context.close()
