import contextlib
import gzip
import logging
import pickle
import socket
import threading
import time
import traceback
import zlib
from functools import partial

import pytest
from web_server import Answer, FakeClock, serving

from phq_data.sources.web import FetchError, PermanentError, TransientError
from phq_data.sources.web.http import Document, KeyAuth, Secret, Web
from phq_data.sources.web.limits import HostPolicy, Quota


def read(web, url, limit=1 << 20, **options):
    with web.open(url, **options) as reply:
        return b"".join(reply.chunks(limit))


def test_it_says_who_comes(site, web):
    site.pages["/a"] = b"x"
    read(web, f"{site.url}/a")
    agent = site.requests[0].headers["User-Agent"]
    assert agent.startswith("phq-data/") and "(ada@example.org)" in agent and "python-httpx/" in agent


@pytest.mark.parametrize(
    ("status", "transient", "reason"),
    [
        (404, False, "not_found"), (403, False, "forbidden"), (410, False, "gone"),
        (401, False, "unauthorized"),
        (451, False, "legal_reasons"), (418, False, "http_418"), (429, True, "TooManyRequests"),
        (500, True, "ServerError"), (503, True, "ServerError"), (524, True, "ServerError"),
        (408, True, "Timeout"),
    ],
)  # fmt: skip
def test_statuses_that_may_pass_are_told_from_those_that_will_not(site, web, status, transient, reason):
    site.pages["/a"] = Answer(b"", status)
    with pytest.raises(FetchError) as caught:
        read(web, f"{site.url}/a?key=secret")
    assert (caught.value.transient, caught.value.reason) == (transient, reason)
    assert str(status) in str(caught.value) and "secret" not in str(caught.value)
    assert caught.value.reason[0].isupper() == transient  # what the ledger's `retryable` rests on


def test_what_may_pass_is_tried_again_with_growing_pauses_and_what_will_not_is_not(site, web, clock):
    site.pages["/a"] = [Answer(b"", 500), Answer(b"", 502), Answer(b"well", 200)]
    assert web.document(f"{site.url}/a").body == b"well"
    assert len(site.requests) == 3 and 1.5 <= clock.slept <= 3.0
    site.pages["/b"] = Answer(b"", 404)
    with pytest.raises(PermanentError):
        web.document(f"{site.url}/b")
    assert site.counts()["/b"] == 1
    site.pages["/c"] = Answer(b"", 500)
    with pytest.raises(TransientError):
        web.document(f"{site.url}/c")
    assert site.counts()["/c"] == web.attempts


def test_retry_after_in_seconds_or_as_a_date_holds_the_whole_host(site, web, clock):
    site.pages["/a"] = [Answer(b"", 429, {"Retry-After": "120"}), b"x"]
    began = clock.now()
    web.document(f"{site.url}/a")
    assert 120 <= clock.now() - began <= 122
    from email.utils import formatdate

    site.pages["/b"] = [Answer(b"", 503, {"Retry-After": formatdate(clock.wall() + 300, usegmt=True)}), b"x"]
    began = clock.now()
    web.document(f"{site.url}/b")
    assert 298 <= clock.now() - began <= 302


def test_a_wait_that_is_too_long_is_left_to_another_day(site, clock):
    web = Web(clock=clock, allow_private=True, max_wait=60)
    site.pages["/a"] = Answer(b"", 429, {"Retry-After": "3600"})
    with pytest.raises(TransientError, match="3600"):
        web.document(f"{site.url}/a")
    assert len(site.requests) == 1 and clock.slept == 0


def test_nothing_left_in_the_headers_holds_until_the_reset(site, web, clock):
    site.pages["/a"] = [
        Answer(
            b"1", headers={"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": str(int(clock.wall() + 90))}
        ),
        b"2",
    ]
    web.document(f"{site.url}/a")
    began = clock.now()
    web.document(f"{site.url}/a")
    assert 88 <= clock.now() - began <= 92


def test_openverse_says_per_window_what_is_left(site, web, clock):
    headers = {"X-RateLimit-Limit-anon_burst": "20/min", "X-RateLimit-Available-anon_burst": "0"}
    site.pages["/a"] = [Answer(b"1", headers=headers), b"2"]
    web.document(f"{site.url}/a")
    began = clock.now()
    web.document(f"{site.url}/a")
    assert 59 <= clock.now() - began <= 61


def test_our_own_quota_holds_even_when_the_server_says_nothing(site, clock):
    host = site.url.removeprefix("http://")
    policy = HostPolicy(quotas=(Quota(3, 3600.0), Quota(5, 86400.0)))
    web = Web(clock=clock, allow_private=True, policies={host: policy}, max_wait=4000)
    site.pages["/a"] = b"x"
    began = clock.now()
    for _ in range(3):
        web.document(f"{site.url}/a")
    assert clock.now() == began
    web.document(f"{site.url}/a")
    assert 3600 <= clock.now() - began <= 3600 + 61
    web.document(f"{site.url}/a")
    with pytest.raises(TransientError) as caught:  # the day's five are used
        web.document(f"{site.url}/a")
    assert caught.value.reason == "QuotaUsed" and "hours" in str(caught.value)


def test_connections_to_a_host_are_never_more_than_its_policy(site, clock):
    from concurrent.futures import ThreadPoolExecutor

    host = site.url.removeprefix("http://")
    web = Web(clock=clock, allow_private=True, policies={host: HostPolicy(connections=2)})
    site.pages["/a"] = Answer(b"x", pause=0.03)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(partial(read, web), [f"{site.url}/a"] * 24))
    assert site.most_at_once == 2


def test_bytes_a_second_are_kept(site, clock):
    host = site.url.removeprefix("http://")
    web = Web(clock=clock, allow_private=True, policies={host: HostPolicy(bytes_per_second=1000.0)})
    site.pages["/a"] = b"x" * 10_000
    began = clock.now()
    read(web, f"{site.url}/a")
    read(web, f"{site.url}/a")
    assert 18 <= clock.now() - began <= 21


@pytest.mark.parametrize("length", [True, False])
def test_a_transfer_that_breaks_off_may_pass(site, web, length):
    headers = {} if length else {"Transfer-Encoding": "chunked"}
    site.pages["/a"] = Answer(b"x" * 100_000, cut=5_000, headers=headers, length=length)
    with pytest.raises(TransientError) as caught:
        read(web, f"{site.url}/a")
    assert caught.value.reason == "BrokenTransfer"


def test_a_server_that_does_not_answer_or_is_not_there(site):
    web = Web(clock=FakeClock(), allow_private=True, timeout=0.2)
    site.pages["/a"] = Answer(b"x", pause=1.0)
    with pytest.raises(TransientError) as caught:
        read(web, f"{site.url}/a")
    assert caught.value.reason == "Timeout"
    with pytest.raises(TransientError) as caught:
        read(web, "http://127.0.0.1:9/a")
    assert caught.value.reason == "ConnectionFailed"


def test_a_body_beyond_the_limit_is_left_also_when_it_only_grows_in_unpacking(site, web):
    site.pages["/a"] = b"x" * 2000
    with pytest.raises(PermanentError, match="1,000"):
        read(web, f"{site.url}/a", 1000)
    bomb = gzip.compress(bytes(200 << 20), 9)
    site.pages["/bomb"] = Answer(bomb, headers={"Content-Encoding": "gzip"})
    pieces = []
    with web.open(f"{site.url}/bomb") as reply, pytest.raises(PermanentError, match="more than"):
        for piece in reply.chunks(4 << 20):
            pieces.append(len(piece))
    assert sum(pieces) <= 4 << 20 and max(pieces) <= 1 << 18
    site.pages["/odd"] = Answer(b"x", headers={"Content-Encoding": "br"})
    with pytest.raises(PermanentError, match="br"):
        read(web, f"{site.url}/odd")


def test_packed_bodies_are_unpacked_and_broken_ones_may_pass(site, web):
    text = bytes(range(256)) * 4000
    site.pages["/gzip"] = Answer(gzip.compress(text), headers={"Content-Encoding": "gzip"})
    site.pages["/deflate"] = Answer(zlib.compress(text), headers={"Content-Encoding": "deflate"})
    assert read(web, f"{site.url}/gzip") == read(web, f"{site.url}/deflate") == text
    site.pages["/cut"] = Answer(gzip.compress(text)[:-20], headers={"Content-Encoding": "gzip"})
    with pytest.raises(TransientError):
        read(web, f"{site.url}/cut", 1 << 22)


def test_redirects_are_followed_and_each_is_asked_about(site, web):
    site.pages.update({
        "/a": Answer(b"", 302, {"Location": "/b"}),
        "/b": Answer(b"", 301, {"Location": f"{site.url}/c"}),
        "/c": b"x",
        "/loop": Answer(b"", 302, {"Location": "/loop"}),
        "/file": Answer(b"", 302, {"Location": "file:///etc/passwd"}),
    })  # fmt: skip
    asked = []
    assert read(web, f"{site.url}/a", hop=asked.append) == b"x"
    assert asked == [f"{site.url}{path}" for path in ("/a", "/b", "/c")]
    for path, reason in (("/loop", "redirects"), ("/file", "bad_url")):
        with pytest.raises(PermanentError) as caught:
            read(web, f"{site.url}{path}")
        assert caught.value.reason == reason


def test_a_key_goes_to_its_own_host_and_is_seen_nowhere(site, web, caplog):
    caplog.set_level(logging.DEBUG)
    key = Secret("topsecretkey")
    with serving() as other:
        other.pages["/b"] = b"x"
        site.pages["/a"] = Answer(b"", 302, {"Location": f"{other.url}/b"})
        site.pages["/c"] = Answer(b"", 500)
        web.document(f"{site.url}/a", auth=KeyAuth(key, "Client-ID "))
        assert site.requests[0].headers["Authorization"] == "Client-ID topsecretkey"
        assert other.requests[0].headers["Authorization"] is None
    try:
        web.document(f"{site.url}/c", auth=KeyAuth(key))
    except TransientError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "topsecretkey" not in shown + caplog.text + repr(key) + str(key) + f"{key}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_whoever_waits_for_a_turn_gives_up_when_the_work_is_stopped(site):
    class Stopping(FakeClock):
        def sleep(self, seconds):
            super().sleep(seconds)
            web.stop()

    web = Web(clock=Stopping(), allow_private=True)
    web.gate(site.url).hold(3000)
    with pytest.raises(TransientError, match="stopped"):
        read(web, f"{site.url}/a")
    assert isinstance(web.clock, FakeClock) and web.clock.slept <= 1


def test_an_error_of_a_request_with_a_key_does_not_quote_it(site, web):
    site.pages["/a"] = b"x"
    with pytest.raises(FetchError) as caught:
        web.document(f"{site.url}/a", auth=KeyAuth(Secret("topsecret\nmore")))
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__}"
    assert "topsecret" not in told and "more" not in told
    assert not site.requests


@contextlib.contextmanager
def dripping(first, piece, pause):
    """The URL of a server of this machine that sends `first` and then `piece` again and again."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(first)
                while not ended.wait(pause):
                    connection.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a"
    finally:
        ended.set()
        server.close()
        thread.join(5)


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_headers_that_never_end_are_left_after_the_time_of_one_answer(first, piece):
    """Each read is fast: it is the whole that takes too long."""
    web = Web("ada@example.org", allow_private=True, timeout=0.5, attempts=1)
    with dripping(first, piece, 0.05) as url, contextlib.closing(web):
        began = time.monotonic()
        with pytest.raises(TransientError) as caught:
            read(web, url)
        assert caught.value.reason == "Timeout" and time.monotonic() - began < 3


def test_a_slow_body_may_take_longer_than_its_headers():
    """The limit of the headers ends with them."""
    web = Web("ada@example.org", allow_private=True, timeout=0.5, attempts=1)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    with dripping(head, b"x", 0.05) as url, contextlib.closing(web):
        assert read(web, url) == b"x" * 20


def test_the_limit_of_a_whole_answer_ends_its_body_too(monkeypatch):
    monkeypatch.setattr("phq_data.sources.web.http._EXCHANGE", 0.5)
    web = Web("ada@example.org", allow_private=True, timeout=5, attempts=1)
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.05) as url, contextlib.closing(web):
        with pytest.raises(TransientError) as caught:
            read(web, url)
        assert caught.value.reason == "Timeout"


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_an_answer_that_is_no_json_is_tried_again_later(body):
    with pytest.raises(TransientError, match="did not answer in JSON"):
        Document("https://example.org/api", 200, {}, body).json()
