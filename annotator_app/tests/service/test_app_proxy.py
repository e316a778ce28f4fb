"""The app behind the service: what is passed on, and to whom."""

import threading
import time

import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from annotator_app.service import AccessError, ServiceSettings, create_app

from .conftest import HEADERS

OURS = {"Origin": "http://127.0.0.1:8765", "Host": "127.0.0.1:8765"}


async def told(request):
    """What came, one header a line, with a cookie of its own and compressed bytes."""
    lines = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    answer = PlainTextResponse(f"{request.method} {request.url.path}?{request.url.query}\n{lines}")
    answer.headers.append("set-cookie", "one=1")
    answer.headers.append("set-cookie", "two=2")
    return answer


async def packed(request):
    import gzip

    return Response(gzip.compress(b"packed"), headers={"content-encoding": "gzip"})


async def echo(websocket):
    await websocket.accept("streamlit")
    await websocket.send_text(websocket.headers.get("cookie", ""))
    while True:
        message = await websocket.receive()
        if message["type"] != "websocket.receive":
            return
        if message.get("text") == "end":
            await websocket.close()
            return
        await websocket.send_bytes(message["bytes"][::-1])


APP = Starlette(
    routes=[Route("/app/packed", packed), WebSocketRoute("/app/echo", echo), Route("/app/{path:path}", told)]
)


@pytest.fixture
def socket(tmp_path):
    """The Unix socket of a small app."""
    server = uvicorn.Server(uvicorn.Config(APP, uds=str(tmp_path / "app"), log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield str(tmp_path / "app")
    server.should_exit = True
    thread.join(20)


def test_pages_of_the_app_come_as_it_sends_them(start, socket):
    client = start(app_socket=socket)
    answer = client.get("/app/some%20page?a=b%20c&d", headers={"Accept-Language": "de"})
    first, *lines = answer.text.splitlines()
    assert first == "GET /app/some page?a=b%20c&d" and "accept-language: de" in lines and "host: app" in lines
    assert answer.headers.get_list("set-cookie") == ["one=1", "two=2"]
    assert client.get("/app/packed").text == "packed"
    assert client.get("/app", follow_redirects=False).headers["location"] == "/app/"
    assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in answer.headers["content-security-policy"]
    assert "unsafe-eval" not in client.get("/").headers["content-security-policy"]
    assert client.get("/api/settings").json()["app"] is True


def test_a_websocket_of_the_app_goes_both_ways_until_one_side_ends_it(start, socket):
    client = start(app_socket=socket)
    asked = {**OURS, "Cookie": "a=b"}
    with client.websocket_connect("/app/echo", ["streamlit", "x", "y"], headers=asked) as stream:
        assert stream.accepted_subprotocol == "streamlit" and stream.receive_text() == "a=b"
        stream.send_bytes(b"123")
        assert stream.receive_bytes() == b"321"
        stream.send_text("end")
        with pytest.raises(WebSocketDisconnect):
            stream.receive_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8765"}, {**OURS, "Origin": "http://localhost:3000"}, {**OURS, "Origin": "null"},
        {"Origin": "http://evil.example", "Host": "evil.example"}, {**OURS, "X-Forwarded-For": "1.2.3.4"},
    ],
)  # fmt: skip
def test_a_websocket_of_others_is_refused(start, socket, headers):
    client = start(app_socket=socket)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/app/echo", headers=headers):
        pass


def test_nothing_of_the_app_is_told_without_a_login(start, socket):
    client = start(app_socket=socket, password="a long password")
    answer = client.get("/app/history?x=1", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fapp%2Fhistory%3Fx%3D1")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/app/echo", headers=OURS):
        pass
    assert client.post("/app/history", headers={"X-PHQ": ""}).status_code == 403
    client.post("/api/login", json={"name": "Bo", "password": "a long password"})
    assert client.get("/app/history").status_code == 200
    cookie = {"Cookie": f"phq_session={client.cookies['phq_session']}"}
    with client.websocket_connect("/app/echo", ["streamlit"], headers=OURS | cookie) as stream:
        assert "phq_session=" in stream.receive_text()


def test_an_app_that_is_away_is_told_and_the_review_goes_on(start, tmp_path):
    client = start(app_socket=str(tmp_path / "no-app"))
    answer = client.get("/app/")
    assert answer.status_code == 502 and "not running" in answer.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/app/echo", headers=OURS):
        pass
    assert client.get("/api/me").status_code == 200


def test_without_an_app_there_is_none(shared):
    assert shared.get("/app/").status_code == 404
    assert shared.get("/api/settings").json()["app"] is False


# ---- a public URL ----------------------------------------------------------------------------------------


def test_with_a_public_url_everybody_logs_in_and_the_cookie_is_for_https(folder, start):
    with pytest.raises(AccessError, match=r"https://review\.example\.org can be reached by other"):
        create_app(ServiceSettings(str(folder), public_url="https://review.example.org"))
    client = start(public_url="https://review.example.org", password="a long password")
    assert client.get("/api/me").status_code == 401
    given = {"name": "Bo", "password": "a long password"}
    for headers in (
        {"Host": "review.example.org", "Origin": "https://review.example.org"},
        {"Host": "127.0.0.1:8765", "Origin": "https://review.example.org"},  # a proxy that names itself
    ):
        answer = client.post("/api/login", json=given, headers={**HEADERS, **headers})
        assert answer.status_code == 200 and "; secure" in answer.headers["set-cookie"].lower()
    foreign = {**HEADERS, "Origin": "https://review.example.org.evil.example"}
    assert client.post("/api/login", json=given, headers=foreign).status_code == 403


def test_failed_logins_behind_a_proxy_count_for_the_address_that_it_tells(start):
    service = start(public_url="https://review.example.org", password="a long password")
    proxy = ("127.0.0.1", 1)
    client = TestClient(service.app, base_url="http://127.0.0.1:8765", client=proxy, headers=HEADERS)

    def guess(number, forwarded):
        given = {"name": f"name {number}", "password": "wrong wrong"}
        return client.post("/api/login", json=given, headers={"X-Forwarded-For": forwarded}).status_code

    codes = [guess(number, f"10.9.9.{number}, 1.2.3.4") for number in range(11)]
    assert codes == [401] * 10 + [429]  # what the guesser put before it does not count
    assert guess(99, "5.6.7.8") == 401  # others are not kept out
