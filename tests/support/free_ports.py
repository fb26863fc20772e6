"""Ports for the servers that tests start."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from random import SystemRandom

FIRST, OF_EACH, PROCESSES = 20_000, 2_000, 6
"""All below 32768: from there on Linux takes ports for whoever connects (net.ipv4.ip_local_port_range)."""


def free_port() -> int:
    """
    A port where nobody listens and which nobody takes by chance until a server of ours does.

    Each process of tests has its own, and is given none twice.
    """
    for port in _untried():
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise RuntimeError(f"All {OF_EACH} ports of this process are taken.")


@cache
def _untried() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
    first = FIRST + worker * OF_EACH
    # In disorder, for tests may run more than once at the same time.
    return iter(SystemRandom().sample(range(first, first + OF_EACH), OF_EACH))
