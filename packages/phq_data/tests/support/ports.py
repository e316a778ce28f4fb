"""Ports for servers that tests start in other processes."""

import os
import random
import socket

_DRAW = random.Random(os.getpid() * 1_000_003 + random.SystemRandom().getrandbits(20))


def quiet_port() -> int:
    """A free port that no other connection is given by chance: from below the ephemeral range.

    A port from `bind(("127.0.0.1", 0))` may be handed to another program before ours listens.
    """
    for _ in range(200):
        port = _DRAW.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
