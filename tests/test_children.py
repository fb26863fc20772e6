import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from marquee.children import MOST_DEATHS, WINDOW_SECONDS, asked_to_stop, deaths_lately, stop

POLITE = "import sys; print(flush=True); sys.stdin.read()"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"


def started(program: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that has said a word, and goes on until it is stopped."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def polite() -> Iterator["subprocess.Popen[bytes]"]:
    yield from started(POLITE)


@pytest.fixture
def deaf() -> Iterator["subprocess.Popen[bytes]"]:
    yield from started(DEAF)


def test_child_that_heeds_the_signal_is_not_killed(polite):
    stop([polite], 60)
    assert polite.returncode == -signal.SIGTERM


def test_child_that_ignores_the_signal_is_killed_and_the_others_are_stopped_all_the_same(deaf, polite):
    stop([deaf, polite], 0)
    assert deaf.returncode == -signal.SIGKILL
    assert polite.returncode is not None


def test_child_that_has_ended_already_keeps_its_code(polite):
    polite.stdin.close()
    assert polite.wait(60) == 0
    stop([polite], 60)
    assert polite.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_sets_the_event_while_the_block_runs_and_no_longer(number):
    before = signal.getsignal(number)
    with asked_to_stop() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), number)
        assert asked.wait(60)
    assert signal.getsignal(number) is before


def test_deaths_count_for_a_while_only():
    now = time.monotonic()
    found = deaths_lately([now - 2 * WINDOW_SECONDS, now])
    assert found[0] == now
    assert len(found) == 2


def test_child_that_dies_at_once_each_time_is_soon_past_the_most_deaths():
    deaths: list[float] = []
    for _ in range(MOST_DEATHS + 1):
        deaths = deaths_lately(deaths)
    assert len(deaths) > MOST_DEATHS
