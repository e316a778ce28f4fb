"""Two writers at an object store are kept apart: an S3 service on loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from programs import environment
from s3_server import Fault

from phq_data.workspace import Workspace, WorkspaceBusyError, WorkspaceError, lease

HOLDER = """
import sys
from phq_data.workspace import Workspace, WorkspaceError, lease
lease.SECONDS = float(sys.argv[2])
workspace = Workspace.open(sys.argv[1])
with workspace.lock():
    print("in", flush=True)
    sys.stdin.readline()
    try:
        workspace.write_bytes("late", b"late")
    except WorkspaceError as error:
        print(error, flush=True)
    else:
        print("wrote", flush=True)
"""


@pytest.fixture
def place(s3, monkeypatch):
    monkeypatch.setattr(lease, "_POLL", 0.1)
    return Workspace.open(f"{s3.url}/place", create=True)


def again(workspace):
    """The same workspace, as another program opens it."""
    return Workspace.open(workspace.url)


def holder(workspace, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, workspace.url, str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout.readline() == "in\n"
    return process


def test_the_second_writer_is_told_who_is_in(place):
    with place.lock():
        told = rf"in use by process {os.getpid()} of \S+ on {socket.gethostname()} since \d{{4}}-\d\d-\d\d"
        with pytest.raises(WorkspaceBusyError, match=told), again(place).lock(wait=False):
            pass
        with pytest.raises(WorkspaceBusyError, match=told), again(place).reading():
            pass
    with again(place).lock(wait=False):
        pass


def test_writers_that_begin_at_once_come_one_after_the_other(place):
    def count():
        for _ in range(3):
            workspace = again(place)
            with workspace.lock():
                workspace.write_bytes("count", str(int(workspace.read_bytes("count")) + 1).encode())

    place.write_bytes("count", b"0")
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.read_bytes("count") == b"12"


def test_a_killed_writers_lease_runs_out_by_the_clock_of_the_store(place):
    process = holder(place, 5)
    process.kill()
    process.wait()
    with pytest.raises(WorkspaceBusyError, match=f"process {process.pid} of"), again(place).lock(wait=False):
        pass
    told = []
    with again(place).lock(on_wait=told.append):
        assert f"process {process.pid} of" in told[0]


def test_a_lease_is_renewed_while_the_work_goes_on(place, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    with place.lock():
        time.sleep(4.5)
        with pytest.raises(WorkspaceBusyError), again(place).lock(wait=False):
            pass
        place.write_bytes("one", b"1")


def test_a_writer_that_stood_still_writes_nothing_after_another_took_over(place):
    process = holder(place, 2)
    os.kill(process.pid, signal.SIGSTOP)
    with again(place).lock():
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate("go on\n", timeout=60)
        assert f"process {os.getpid()} of" in out and "has taken over" in out and "wrote" not in out
    assert not again(place).exists("late")
    with again(place).lock(wait=False):  # the loser did not give back what was not its own
        pass


def test_a_worker_of_another_process_stops_with_whoever_began_it(place, monkeypatch):
    with place.lock():
        monkeypatch.setattr(lease, "_HELD", {})  # as in another process
        worker, late, first = again(place), again(place), place.holder()
        worker.follow()
        worker.write_bytes("one", b"1")
    with again(place).lock(), pytest.raises(WorkspaceError, match="this worker writes nothing more"):
        worker.write_bytes("two", b"2")
    with again(place).lock(), pytest.raises(WorkspaceError, match="this worker writes nothing more"):
        late.follow(first)  # a task that begins only now
    assert not place.exists("two")


def test_threads_that_outlive_the_lock_write_nothing(place):
    with place.lock():
        part = again(place)
        part.write_bytes("one", b"1")
    with pytest.raises(WorkspaceError, match="let go"):
        part.write_bytes("two", b"2")


@pytest.mark.parametrize("fault", [Fault(lost=True), Fault(reset=True), Fault(status=500)])
def test_a_lease_whose_answer_is_lost_is_had_all_the_same(place, s3, fault):
    left = [fault]

    def once(request):
        return left.pop() if left and request.method == "PUT" and "lease.json" in request.path else None

    s3.service.fault = once
    with place.lock(wait=False):
        assert not left
        left.append(fault)
    assert not left
    with place.lock(wait=False):
        pass


def test_who_may_only_read_reads_and_is_told_when_writing(place, s3):
    s3.service.fault = lambda request: Fault(status=403) if request.method in ("PUT", "POST") else None
    with place.reading():
        assert place.exists("workspace.json")
    with pytest.raises(WorkspaceError, match=r"no rights at s3://.*check the credentials"), place.lock():
        pass


@pytest.fixture
def plain(monkeypatch, request):
    """A workspace at a store without conditional puts."""
    monkeypatch.setattr(lease, "_SETTLE", 0.05)
    monkeypatch.setattr(lease, "_POLL", 0.1)
    return Workspace.open(f"memory://phq-{request.node.name}", create=True)


def of(workspace):
    return lease.of_this_process(workspace._fs, workspace._root)


def stand_still(held, seconds=100):
    """As if the process of a lease had been stopped so long."""
    held._renewed -= seconds


def test_at_a_plain_store_two_that_begin_at_once_come_one_after_the_other(plain, monkeypatch):
    with plain.lock():  # and given back
        pass
    both, take, inside, most = threading.Barrier(2), lease.Lease.take, [], []

    def take_at_once(self, found):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(2)  # both have seen that nobody is in
        both.abort()
        return take(self, found)

    def work():
        with again(plain).lock():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    monkeypatch.setattr(lease.Lease, "take", take_at_once)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1, 1]


def test_at_a_plain_store_a_holder_that_was_replaced_takes_nothing_back(plain):
    with pytest.raises(lease.LeaseLostError, match="has taken over"), plain.lock():
        first = of(plain)
        plain._fs.pipe_file(f"{plain._root}/{lease.NAME}", first._text(""))  # it ran out: another may go in
        with again(plain).lock(wait=False):
            second = of(plain)
            stand_still(first)
            first._renew()
            assert lease.holder(plain._fs, plain._root) == second.token
            plain.write_bytes("late", b"late")
    assert not plain.exists("late")


@pytest.fixture
def unconditional(place, monkeypatch):
    """A workspace at an S3 service that has no conditional puts."""
    from phq_data import object_store

    original = object_store.S3.call_s3

    def call(self, method, *arguments, **asked):
        if asked.keys() & {"IfMatch", "IfNoneMatch"}:
            error = OSError("a header you provided implies functionality that is not implemented")
            vars(error)["response"] = {"Error": {"Code": "NotImplemented"}}
            raise error
        return original(self, method, *arguments, **asked)

    monkeypatch.setattr(object_store.S3, "call_s3", call)
    monkeypatch.setattr(object_store, "SETTLE", 0.3)
    return place


def test_a_service_without_conditional_puts_keeps_writers_apart(unconditional):
    fs, path = unconditional._fs, unconditional.path("one")
    first = fs.put_if(path, b"1", None)
    assert first and fs.put_if(path, b"2", None) is None and fs.put_if(path, b"2", '"other"') is None
    results = []
    threads = [
        threading.Thread(target=lambda data=data: results.append(fs.put_if(path, data, first)))
        for data in (b"3", b"4")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    with pytest.raises(lease.LeaseLostError), unconditional.lock():
        held = of(unconditional)
        fs.pipe_file(unconditional.path(lease.NAME), b'{"token": "other"}')
        stand_still(held)
        held.check()
    assert lease.holder(fs, unconditional._root) == "other"


@pytest.mark.parametrize("ask", [True, False])
def test_who_reads_is_told_that_another_took_over_meanwhile(plain, ask):
    done = []
    with pytest.raises(lease.LeaseLostError, match="has taken over"), plain.reading() as check:
        check()
        plain._fs.pipe_file(f"{plain._root}/{lease.NAME}", b'{"token": "other"}')
        stand_still(of(plain))
        if ask:
            check()
        done.append(1)
    assert bool(done) != ask


def test_stores_without_conditional_puts_have_a_lease_too(plain):
    place = plain
    with place.lock(), pytest.raises(WorkspaceBusyError, match="in use by process"):
        again(place).alone(wait=False).__enter__()
    with again(place).lock(wait=False):
        pass
