"""The Streamlit app in a real browser, as `phq review` starts it; what it does is in the database."""

import re
import signal

import numpy as np
import pytest
from browser import LAPTOP, until
from ports import quiet_port
from served import Served, phq_review, set_policy

from benchmarks.review_fixtures import make_workspace

pytestmark = pytest.mark.slow


def fill(folder):
    """Decisions of three people who mostly agree: they reject the portraits whose label is off."""
    import sqlalchemy as sa

    from phq_data.review.decisions import ulid
    from phq_data.review.records import ItemFacts
    from phq_data.review.store import NewDecision, Store, now_ms
    from phq_data.review.tables import ITEMS
    from phq_data.workspace import Workspace

    store = Store.open(Workspace.open(folder))
    with store.database.read() as connection:
        rows = connection.execute(
            sa.select(ITEMS.c.portrait_id, ITEMS.c.facts).order_by(ITEMS.c.portrait_id)
        ).all()
    random, start = np.random.default_rng(0), now_ms() - 3_600_000
    for reviewer, most in (("ann", 260), ("bea", 60), ("cem", 30)):
        for number, (portrait, facts) in enumerate(rows[:most]):
            off = ItemFacts.from_json(facts).numbers["landmark_error"] > 0.05  # as the fixtures make it
            bad = off != (reviewer == "bea" and number == 45)
            moment = start + 2000 * number
            one = NewDecision(
                ulid(moment), portrait, "reject" if bad else "accept", "shoulders" if bad else "",
                time=moment, seconds=float(random.uniform(1, 3)), client="test",
            )  # fmt: skip
            assert not store.record([one], reviewer).refused
    store.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app") / "workspace"
    make_workspace(folder, 400, size=128, faces=300, photos=False)
    set_policy(folder, overlap_share=0.2, gold_share=0.0)
    fill(folder)
    port = str(quiet_port())
    process, _ = phq_review(
        "--workspace", str(folder), "--no-browser", "--reviewer", "ann", "--port", port, home=folder.parent
    )
    service = Served(folder)  # to look into its database; it is not started a second time
    service.url = f"http://127.0.0.1:{port}/app"
    yield service
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=LAPTOP)
    context.set_default_timeout(90_000)
    yield context.new_page()
    context.close()


def test_the_review_page_in_its_frame_takes_keys_at_once(app, page):
    app.mark()
    page.goto(app.url)
    page.wait_for_selector("iframe")
    frame = _waited(page, lambda: next((one for one in page.frames if "order=" in one.url), None))
    ready = "document.body ? document.body.dataset.ready : ''"
    first = _waited(page, lambda: frame.evaluate(ready))
    page.keyboard.press("a")
    _waited(page, lambda: frame.evaluate(ready) not in ("", first))
    _waited(page, lambda: app.log())
    assert app.log() == [(first, "accept", "", "ann")]


def test_the_dashboard_tells_what_the_log_holds(app, page):
    page.goto(f"{app.url}/dashboard")
    page.get_by_text("Fleiss' kappa").wait_for()
    columns = "COUNT(*), SUM(state = 'accepted'), SUM(state = 'disputed')"
    total, accepted, disputed = app.query(f"SELECT {columns} FROM items")[0]
    assert disputed == 1
    main = page.locator("[data-testid=stMain]")
    for name, value in (("Portraits", total), ("Accepted", accepted), ("Disputed", disputed)):
        shown = re.compile(rf"{name}\s+{value}\b")
        _waited(page, lambda shown=shown: shown.search(main.inner_text()))


def test_a_lead_adjudicates_a_dispute_and_the_ruling_keeps_the_reason(app, page):
    page.goto(f"{app.url}/dashboard")
    page.get_by_role("button", name="Reject", exact=True).first.click()
    _waited(page, lambda: app.query("SELECT COUNT(*) FROM items WHERE state = 'disputed'")[0][0] == 0)
    found = app.query("SELECT verdict, reason, reviewer FROM decisions WHERE client LIKE 'adjudication%'")
    assert found == [("reject", "shoulders", "ann")]  # that of who rejected it


def test_a_batch_is_taken_without_the_one_whose_tick_was_taken_off_and_undone(app, page):
    app.mark()
    page.goto(f"{app.url}/triage")
    button = page.get_by_role("button", name="Accept the ticked ones")
    button.wait_for()
    ticks = page.get_by_role("checkbox")
    _waited(page, lambda: ticks.count() >= 10)
    count = ticks.count()
    ticks.nth(2).uncheck(force=True)  # Streamlit draws its own box over the input
    button.click()
    page.get_by_text(re.compile(f"{count - 1} saved as accept")).wait_for()
    assert [row[1] for row in app.log()] == ["accept"] * (count - 1)
    clients = app.query("SELECT DISTINCT client FROM decisions WHERE seq > ?", app.first)
    assert clients == [("triage",)]
    page.get_by_role("button", name=re.compile("Undo all")).click()
    _waited(page, lambda: [row[1] for row in app.log()].count("undo") == count - 1)


def test_the_gallery_filters_by_state(app, page):
    page.goto(f"{app.url}/gallery")
    page.locator(".phq-tile").first.wait_for()
    page.get_by_role("radio", name="rejected").or_(page.get_by_role("button", name="rejected")).first.click()
    rejected = app.query("SELECT COUNT(*) FROM items WHERE state = 'rejected' AND pool = 0")[0][0]
    page.get_by_text(re.compile(rf"of {rejected:,} portraits \(.*, rejected\), by error")).wait_for()
    titles = page.eval_on_selector_all(".phq-tile", "tiles => tiles.map(tile => tile.title)")
    assert titles and all(title.endswith("rejected") for title in titles)
    drawn = "Array.from(document.querySelectorAll('.phq-tile img')).every(i => i.naturalWidth > 0)"
    until(page, drawn)


def test_the_history_shows_the_log_and_exports_it(app, page):
    page.goto(f"{app.url}/history")
    button = page.get_by_role("button", name="Export as CSV")
    button.wait_for()
    with page.expect_download() as download:
        button.click()
    rows = download.value.path().read_text().splitlines()
    assert len(rows) == 1 + app.query("SELECT COUNT(*) FROM decisions")[0][0]
    assert rows[0].startswith("verdict,reason,note,stands,reviewer,when")


def test_settings_are_saved(app, page):
    page.goto(f"{app.url}/settings")
    field = page.get_by_label("Votes per portrait")
    field.fill("2")
    field.press("Tab")
    page.get_by_role("button", name="Save").click()
    _waited(page, lambda: app.query("SELECT value FROM settings WHERE name = 'min_votes'")[0][0] == "2")


def _waited(page, look, seconds=30):
    """What `look` returns as soon as it is something."""
    for _ in range(seconds * 10):
        try:
            found = look()
        except Exception as error:  # the frame is being replaced
            if "detached" not in str(error) and "destroyed" not in str(error):
                raise
            found = None
        if found:
            return found
        page.wait_for_timeout(100)
    raise AssertionError("it never happened")


def test_the_running_app_refuses_foreign_websockets(app):
    import socket
    from urllib.parse import urlsplit

    where = urlsplit(app.url)
    for origin, status in (("http://localhost:9", b"403"), (f"http://{where.netloc}", b"101")):
        head = (
            f"GET /app/_stcore/stream HTTP/1.1\r\nHost: {where.netloc}\r\nOrigin: {origin}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        with socket.create_connection((where.hostname, where.port)) as client:
            client.settimeout(30)
            client.sendall(head.encode())
            assert client.recv(4096).split()[1] == status
