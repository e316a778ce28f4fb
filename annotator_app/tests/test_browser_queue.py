"""The choice of the queue in a real browser: what filters let through, also after a reload."""

import pytest
from browser import LAPTOP, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("queue") / "workspace"
    make_workspace(folder, 40, size=96, faces=300, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder) as started:
        yield started


def test_filters_hold_for_the_queue_and_after_a_reload_until_they_are_taken_back(service, browser):
    context = browser.new_context(viewport=LAPTOP)
    page = context.new_page()
    page.goto(service.url)
    first = wait_ready(page)
    (file,) = service.query("SELECT uri FROM items WHERE portrait_id = ?", first)[0]
    rows = service.query("SELECT portrait_id, error_probability FROM items WHERE open = 1 AND pool = 0")
    middle = sorted(row[1] for row in rows)[20]
    wanted = [row[0] for row in rows if row[1] <= middle]
    page.keyboard.press("q")
    page.click("#queue-more summary")
    page.fill("#queue [name=max_error]", str(middle))
    page.click("#queue [type=submit]")
    now = wait_ready(page, other_than=first)
    assert now in wanted
    assert page.inner_text("#total") == str(len(wanted)) and "filtered" in page.inner_text("#queue-name")
    page.reload()
    assert wait_ready(page) == now
    assert decide(page, "a") == now
    page.keyboard.press("q")
    assert page.input_value("#queue [name=max_error]") == str(middle), "the filter is shown"
    page.fill("#queue [name=max_error]", "")
    page.fill("#queue [name=text]", file.rsplit("/", 1)[-1])
    page.click("#queue [type=submit]")
    until(page, "id => document.body.dataset.ready === id", first)
    page.keyboard.press("q")
    page.fill("#queue [name=text]", "")
    page.click("#queue [type=submit]")
    until(page, "count => document.getElementById('total').textContent === count", str(len(rows)))
    wait_saved(page)
    context.close()
