"""A reload without network: the page goes on with what is at hand, of the person who is logged in alone."""

import pytest
from browser import LAPTOP, decide, until, wait_ready, wait_saved
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

pytestmark = pytest.mark.slow
PASSWORD = "a long password"
KEPT = """async () => {
  const data = await caches.open("phq-data");
  const paths = (await data.keys()).map((one) => new URL(one.url).pathname);
  const held = await (await data.match("/kept/held"))?.json();
  const there = (id, name) => paths.some((path) => path.includes(id) && path.endsWith(name));
  const whole = ({ portrait_id: id }) => there(id, "crop") && there(id, "camera");
  const begun = ["/api/me", "/api/settings", "/api/history"].every((path) => paths.includes(path));
  return held && begun ? held.items.filter(whole).length : 0;
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline") / "workspace"
    make_workspace(folder, 80, size=96, faces=200, photos=False)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder, password=PASSWORD) as started:
        yield started


@pytest.fixture
def context(browser, service):
    context = browser.new_context(viewport=LAPTOP, locale="de-DE")
    yield context
    context.close()


def log_in(context, service, name):
    """As the login page does, so that the service worker sees it."""
    page = context.pages[0] if context.pages else context.new_page()
    page.goto(f"{service.url}/login?next=/")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.click("button")
    page.wait_for_url(f"{service.url}/")
    wait_ready(page)
    return page


def await_kept(page, count=8):
    for _ in range(600):
        if (page.evaluate(KEPT) or 0) >= count:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not kept: {page.evaluate(KEPT)}")


def test_a_reload_without_network_goes_on_and_delivers_later_in_order(service, context):
    page = log_in(context, service, "bea")
    await_kept(page)
    service.mark()
    context.set_offline(True)
    decided = [decide(page, "a") for _ in range(3)]
    page.reload()
    assert wait_ready(page) not in decided
    assert page.locator("html").get_attribute("lang") == "de"
    decided += [decide(page, "a") for _ in range(3)]
    page.reload()
    assert wait_ready(page) not in decided
    until(page, "window.phqReview.waiting() === 6")
    broken = (
        "[...document.querySelectorAll('img[src]')].filter((one) => one.complete && !one.naturalWidth).length"
    )
    until(page, "document.querySelectorAll('#strip img').length === 6")
    assert page.evaluate(broken) == 0
    assert len(set(decided)) == 6 and service.log() == []
    context.set_offline(False)
    wait_saved(page)
    assert [row[0] for row in service.log()] == decided
    assert decide(page, "a") not in decided


def test_nothing_of_somebody_else_is_kept(service, context):
    page = log_in(context, service, "cem")
    await_kept(page)
    decide(page, "a")
    wait_saved(page)
    page.evaluate("fetch('/api/logout', {method: 'POST', headers: {'X-PHQ': '2'}})")
    until(page, "(async () => !(await caches.keys()).includes('phq-data'))()")
    page = log_in(context, service, "dor")
    await_kept(page)
    owner = "async () => (await (await (await caches.open('phq-data')).match('/kept/held')).json()).owner"
    assert page.evaluate(owner).endswith("/dor")
    context.set_offline(True)
    page.reload()
    wait_ready(page)
    assert page.inner_text("#who") == "dor"
    assert page.locator("#strip img").count() == 0  # cem's decision is not shown
    context.set_offline(False)


def test_an_ended_login_empties_what_was_kept(service, context):
    page = log_in(context, service, "eli")
    await_kept(page)
    context.clear_cookies()
    page.goto(service.url)
    page.wait_for_url("**/login?**")
    context.set_offline(True)
    page.goto(service.url)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.body.dataset.ready") in (None, "")
    context.set_offline(False)


def test_an_upgrade_keeps_one_version_and_takes_the_files_of_one_version(service, context):
    page = context.new_page()
    page.goto(f"{service.url}/login")  # before there is a worker of this version
    page.evaluate("caches.open('phq-shell-old').then((one) => one.put('/x', new Response('old')))")
    log_in(context, service, "fay")
    await_kept(page)
    names = "async () => (await caches.keys()).filter((one) => one.startsWith('phq-shell-'))"
    (version,) = page.evaluate(names)
    paths = "async (name) => (await (await caches.open(name)).keys()).map((one) => new URL(one.url).pathname)"
    files = page.evaluate(paths, version)
    assert files and all(one.startswith(f"/assets/{version.removeprefix('phq-shell-')}/") for one in files)
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
    )
    assert {one for one in loaded if one.startswith("/assets/")} <= set(files)
