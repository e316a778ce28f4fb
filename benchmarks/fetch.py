"""`make bench-fetch`: photos a second from a server on this machine, fetched, verified and hashed.

The server is a process of its own and so is every measurement: the CPU time is the client's alone, and so is
the peak memory. A photo a second and core is a photo over the client's CPU seconds; with a server on the same
cores, photos a second of wall time say more of the machine than of the client.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONNECTIONS = (1, 16, 64)
AIM = 80.0  # photos a second and core


def main() -> None:
    """Parse the command line, run server and measurements, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetch", description=__doc__)
    parser.add_argument("--photos", type=int, default=1200, help="downloads per measurement (default 1200)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, metavar=("URL", "CONNECTIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve()
    elif options.worker:
        _measure(options.worker[0], int(options.worker[1]), options.photos)
    else:
        _compare(options.photos, options.json)


def _compare(photos: int, as_json: bool) -> None:
    server = subprocess.Popen([*_SELF, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        about = json.loads(server.stdout.readline())
        found = []
        for connections in CONNECTIONS:
            command = [*_SELF, "--photos", str(photos), "--worker", about["url"], str(connections)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    worst = max(found, key=lambda row: row["cpu_ms_per_image"])
    result = {
        "images_per_s_per_core": round(1000.0 / worst["cpu_ms_per_image"], 1),
        "aim": AIM,
        "image_kib": about["kib"],
        "connections": found,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    _show(result)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")


_SELF: Sequence[str] = (sys.executable, "-m", "benchmarks.fetch")


def _serve() -> None:
    """Serve distinct photos of an ordinary size at /INDEX.jpg; say where in a line of JSON."""
    photos = [_photo(index) for index in range(32)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            name = self.path.strip("/").removesuffix(".jpg")
            found = photos[int(name) % len(photos)] if name.isdigit() else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.request_queue_size = 256
    kib = sum(map(len, photos)) / len(photos) / 1024
    about = {"url": f"http://127.0.0.1:{server.server_address[1]}", "kib": round(kib, 1)}
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()
    server.serve_forever()


def _photo(seed: int) -> bytes:
    """A JPEG of 1600 x 1200 pixels with about as many bytes as a photo of that size."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).resize((1600, 1200))
    pixels = np.asarray(coarse, np.int16) + random.integers(-12, 13, (1200, 1600, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _measure(url: str, connections: int, photos: int) -> None:
    """Fetch `photos` photos over `connections` connections; a line of JSON."""
    from phq_data.sources.web.fetch import Fetched, Fetcher
    from phq_data.sources.web.http import Web
    from phq_data.sources.web.limits import HostPolicy
    from phq_data.sources.web.planning import Store
    from phq_data.sources.web.robots import RobotsPolicy
    from phq_data.workspace import Workspace

    policy = HostPolicy(connections=connections)
    web = Web("bench", default=policy, allow_private=True, connections=connections)
    with tempfile.TemporaryDirectory(prefix="phq-bench-") as folder:
        store = Store(Workspace.open(folder, create=True))
        fetcher = Fetcher(web, RobotsPolicy(web), store.folder, 100_000_000)

        def one(index: int) -> Fetched:
            return fetcher.fetch(f"{url}/{index}.jpg")

        one(0)  # robots.txt, imports
        base = _peak_mib()
        began, cpu = time.perf_counter(), time.process_time()
        size = 0
        with ThreadPoolExecutor(connections) as pool:
            for fetched in pool.map(one, range(photos)):
                size += fetched.bytes
                store.keep(fetched)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
    web.close()
    result = {
        "connections": connections,
        "images_per_s": round(photos / wall, 1),
        "cpu_ms_per_image": round(1000.0 * used / photos, 3),
        "mib_per_s": round(size / wall / 2**20, 1),
        "peak_mib": round(_peak_mib(), 1),
        "above_idle_mib": round(_peak_mib() - base, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _show(result: dict[str, Any]) -> None:
    lines = [f"{'connections':>11}  {'images/s':>8}  {'CPU ms/image':>12}  {'MiB/s':>6}  {'peak MiB':>8}"]
    lines += [
        f"{row['connections']:>11}  {row['images_per_s']:>8}  {row['cpu_ms_per_image']:>12}  "
        f"{row['mib_per_s']:>6}  {row['peak_mib']:>8}"
        for row in result["connections"]
    ]
    lines.append(
        f"{result['images_per_s_per_core']} images a second and core (aim: {result['aim']:.0f}), photos of "
        f"{result['image_kib']} KiB, fetched, verified, hashed and stored; client and server on "
        f"{result['cores']} cores"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
