"""The review behind a reverse proxy with HTTPS: the nginx example of docs/review.md, as it stands there."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from browser import LAPTOP, decide, until, wait_ready, wait_saved
from ports import quiet_port
from served import Served, phq_review, set_policy

from annotator_app.service.settings import AccessError, check_public_url
from benchmarks.review_fixtures import make_workspace
from phq_data.review import reviewers
from phq_data.review.store import Store
from phq_data.workspace import Workspace

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DOCS = Path(__file__).parents[2] / "docs" / "review.md"


def example(folder, port, service_port):
    """A whole configuration around the documented one, which keeps everything but names and places."""
    told = re.search(r"```nginx\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]
    for was, now in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("server_name review.example.org;", "server_name localhost;"),
        ("/etc/ssl/review.pem", str(folder / "review.pem")),
        ("/etc/ssl/review.key", str(folder / "review.key")),
        ("127.0.0.1:8765", f"127.0.0.1:{service_port}"),
    ):
        assert told.count(was) == 1, was
        told = told.replace(was, now)
    places = "".join(
        f"{one}_temp_path {folder}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {folder}/pid; error_log stderr warn; events {{}}\n"
        f"http {{ access_log off; {places}\n{told}}}\n"
    )


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-keyout", str(folder / "review.key"), "-out", str(folder / "review.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """(public URL, token of a lead, the service's database) of a review behind nginx."""
    if NGINX is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed (apt-get install nginx-light openssl)")
    folder = tmp_path_factory.mktemp("proxied")
    make_workspace(folder / "workspace", 60, images=12, size=96, faces=200)
    set_policy(folder / "workspace", overlap_share=0.0, gold_share=0.0)
    store = Store.open(Workspace.open(folder / "workspace"))
    token = reviewers.invite(store, "Lea", "lead")
    store.close()
    port, service_port = quiet_port(), quiet_port()
    url = f"https://localhost:{port}"
    review, said = phq_review(
        "--workspace", str(folder / "workspace"), "--no-browser", "--port", str(service_port),
        "--public-url", url, home=folder,
    )  # fmt: skip
    assert f"{url}/?order=" in said and f"{url}/app/" in said
    certificate(folder)
    (folder / "nginx.conf").write_text(example(folder, port, service_port))
    proxy = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        yield url, token, Served(folder / "workspace"), f"http://127.0.0.1:{service_port}"
    finally:
        for process in (proxy, review):
            process.send_signal(signal.SIGTERM)
        proxy.wait(60)
        review.communicate(timeout=120)


@pytest.fixture
def page(browser, team):
    context = browser.new_context(viewport=LAPTOP, ignore_https_errors=True)
    context.set_default_timeout(90_000)
    opened = context.new_page()
    opened.refused = []
    opened.on("console", lambda one: opened.refused.append(one.text) if "Content Security" in one.text else 0)
    yield opened
    context.close()
    assert opened.refused == []


@pytest.mark.slow
def test_an_invitation_opens_the_page_and_the_app_with_its_websocket_and_its_frame(team, page):
    url, token, service, _ = team
    page.goto(f"{url}/app/dashboard")
    page.wait_for_url(re.compile("/login"))  # nothing of the app without a login
    page.goto(f"{url}/login?next=/#token={token}")
    page.wait_for_url(f"{url}/")
    first = wait_ready(page)
    assert decide(page, "a") == first
    wait_saved(page)
    cookie = next(one for one in page.context.cookies() if one["name"] == "phq_session")
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert service.query("SELECT portrait_id, verdict, reviewer FROM decisions") == [(first, "accept", "Lea")]

    page.goto(f"{url}/app/dashboard")  # drawn by what comes through the WebSocket
    page.get_by_text("Adjudication").wait_for()
    page.goto(f"{url}/app/gallery")
    page.locator(".phq-tile img").first.wait_for()
    until(page, "[...document.querySelectorAll('.phq-tile img')].every((one) => one.naturalWidth > 0)")
    page.goto(f"{url}/app/")
    page.wait_for_selector("iframe")
    for _ in range(600):
        frame = next((one for one in page.frames if "order=" in one.url), None)
        if frame and frame.evaluate("document.body && document.body.dataset.ready"):
            break
        page.wait_for_timeout(100)
    before = frame.evaluate("document.body.dataset.ready")
    assert before and before != first
    page.keyboard.press("a")
    for _ in range(300):
        if frame.evaluate("document.body.dataset.ready") != before:
            break
        page.wait_for_timeout(100)
    assert frame.evaluate("document.body.dataset.ready") not in ("", before)


@pytest.mark.slow
def test_whoever_comes_without_a_login_is_nobody_whatever_headers_say(team):
    url, _, _, behind = team
    with httpx.Client(verify=False, trust_env=False, timeout=60) as client:
        for base in (url, behind):
            for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-Host": "localhost"}):
                assert client.get(f"{base}/api/me", headers=headers).status_code == 401
                answer = client.get(f"{base}/app/dashboard", headers=headers)
                assert answer.status_code == 303
                assert answer.headers["location"] == "/login?next=%2Fapp%2Fdashboard"
        assert client.get(f"{url}/api/me", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "url", ["review.example.org", "https://review.example.org/phq", "ftp://x", "https://", "https://[::1",
            "https://a:b@review.example.org", "https://review.example.org?x", "https://x:port"],
)  # fmt: skip
def test_what_is_no_public_url_is_told(url):
    with pytest.raises(AccessError, match="is no public URL of the review"):
        check_public_url(url)


def test_a_public_url_may_have_a_port():
    check_public_url("https://review.example.org:8443")
    check_public_url("http://[::1]:8080")
