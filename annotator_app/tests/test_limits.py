"""What a server of ours bears from its clients: slow heads, many connections, pages of others."""

import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from annotator_app import limits
from annotator_app.app.serve import AppGate
from annotator_app.service.settings import ServiceSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def hello(_):
    return PlainTextResponse("hello")


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


APP = Starlette(routes=[Route("/", hello), WebSocketRoute("/echo", echo)])


@pytest.fixture
def port(monkeypatch):
    """A server of ours, with a short time for heads and few connections."""
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(limits, "CONNECTIONS", 4)
    servers = []
    started = uvicorn.Server.run
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, *given: (servers.append(self), started(self, *given))
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    thread = threading.Thread(target=limits.serve, args=(APP, "127.0.0.1", number), daemon=True)
    thread.start()
    while not (servers and servers[0].started):
        time.sleep(0.02)
    yield number
    servers[0].should_exit = True
    thread.join(20)


def connect(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    return client


def answer(client):
    return client.recv(4096).split(b"\r\n")[0]


def seconds_until_closed(client):
    began = time.monotonic()
    while client.recv(4096):
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("first", [b"", REQUEST[:-6]])
def test_a_head_that_does_not_come_ends_the_connection(port, first):
    with connect(port) as client:
        client.sendall(first)
        assert seconds_until_closed(client) < 5


def test_a_second_head_that_drips_ends_it_too(port):
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answer(client) == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 10:
                client.sendall(b"G" if time.monotonic() == began else b"E")
                time.sleep(0.2)
        assert time.monotonic() - began < 5


def test_a_websocket_may_be_silent(port):
    from websockets.sync.client import connect as open_websocket

    with open_websocket(f"ws://127.0.0.1:{port}/echo") as client:
        time.sleep(1.5)
        client.send("still here")
        assert client.recv(5) == "still here"


def test_more_connections_than_allowed_are_told_so(port):
    idle = [connect(port) for _ in range(6)]
    try:
        with connect(port) as client:
            client.sendall(REQUEST)
            assert answer(client).startswith(b"HTTP/1.1 503")
    finally:
        for client in idle:
            client.close()
    time.sleep(0.2)
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answer(client) == b"HTTP/1.1 200 OK"


# ---- the app's gate --------------------------------------------------------------------------------------


@pytest.fixture
def app():
    gate = AppGate(APP, ServiceSettings("", names=("review.lab",)))
    return TestClient(gate, base_url="http://127.0.0.1:8766")


def test_the_apps_pages_cannot_be_framed_or_sniffed_by_others(app):
    headers = app.get("/").headers
    assert headers["content-security-policy"].startswith("frame-ancestors 'self';")
    assert headers["x-content-type-options"] == "nosniff"


def test_the_app_goes_by_its_own_names_only(app):
    assert app.get("/", headers={"Host": "review.lab:8766"}).status_code == 200
    assert app.get("/", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "http://localhost:3000"}, {"Origin": "null"}, {},
        {"Origin": "http://evil.example:8766", "Host": "evil.example:8766"},
    ],
)  # fmt: skip
def test_a_websocket_of_another_origin_is_refused(app, headers):
    with pytest.raises(WebSocketDisconnect), app.websocket_connect("/echo", headers=headers):
        pass


def test_a_websocket_of_our_own_page_is_accepted(app):
    headers = {"Origin": "http://127.0.0.1:8766", "Host": "127.0.0.1:8766"}
    with app.websocket_connect("/echo", headers=headers) as client:
        client.send_text("hello")
        assert client.receive_text() == "hello"
