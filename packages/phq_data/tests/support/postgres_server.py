"""A PostgreSQL server for the tests: in a folder of its own, on loopback, ended with the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from ports import quiet_port


def binaries():
    """The folder of initdb and postgres, or None."""
    candidates = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in candidates if (p / "initdb").exists() and (p / "postgres").exists()), None)


def unprivileged():
    """The user that runs the server: PostgreSQL refuses to be run by root. None: we are not root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


@contextlib.contextmanager
def server():
    """The URL of a server with a database `review`; the caller checked that there are binaries."""
    folder = Path(tempfile.mkdtemp(prefix="phq-pg-"))
    user = unprivileged()
    extra = {}
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        extra = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    tools, data = binaries(), folder / "data"
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(folder)}
    run = {"cwd": folder, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **extra}
    done = subprocess.run(
        [tools / "initdb", "-D", data, "-U", "phq", "-A", "trust", "-N", "-E", "UTF8"], check=False, **run
    )
    assert done.returncode == 0, done.stdout.decode()
    port = quiet_port()
    process = subprocess.Popen(
        [tools / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(folder),
         "-c", "fsync=off", "-c", "max_connections=200"],
        **{**run, "stdout": subprocess.DEVNULL},
    )  # fmt: skip
    try:
        yield f"postgresql://phq@127.0.0.1:{port}", _awaited(port, process)
    finally:
        process.send_signal(signal.SIGINT)  # fast: clients are not waited for
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _awaited(port, process):
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the server ended"
        try:
            return psycopg.connect(f"postgresql://phq@127.0.0.1:{port}/postgres", autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
