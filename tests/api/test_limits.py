import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.api.limits import MAX_DEPTH, Overload, RateLimits, flaw_of_json
from marquee.errors import ConfigError


def depth(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


BRACKETS = st.text('[]{}",\\ x', max_size=12)
JSON = st.recursive(
    st.integers() | BRACKETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BRACKETS, inner, max_size=3),
    max_leaves=20,
)


@given(inner=JSON, more=st.integers(0, 40), escaped=st.booleans())
def test_depth_is_told_from_what_stands_outside_of_strings(inner, more, escaped):
    value = inner
    for _ in range(more):
        value = [value, '"[[{{,\\'] if more % 2 else {'"]': value}
    flaw = flaw_of_json(json.dumps(value, ensure_ascii=escaped).encode())
    assert (flaw is None) == (depth(value) <= MAX_DEPTH)


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (b"", None),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b"[" * 500_000, "deeper"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "deeper"),
        (b"[" + b"1," * 99_998 + b"1]", None),
        (b"[" + b"1," * 100_000 + b"1]", "elements"),
        (b'["' + b"," * 200_000 + b'"]', None),
        (b'["' + b"[" * 200_000 + b'"]', None),
        (b"\\" * 100_000 + b"[" * 33, "deeper"),
    ],
    ids=[
        "empty",
        "at-most",
        "only-open",
        "objects",
        "many",
        "too-many",
        "commas-in-text",
        "open-in-text",
        "junk",
    ],
)
def test_bodies_are_refused_by_shape_alone(body, flaw):
    found = flaw_of_json(body)
    assert found is None if flaw is None else flaw in found


def test_rate_is_counted_per_sender_and_says_how_long_to_wait():
    rates = RateLimits("3/minute", "1/minute;2/hour")
    assert [rates.seconds_to_wait("key", "a") for _ in range(3)] == [0, 0, 0]
    assert 0 < rates.seconds_to_wait("key", "a") <= 60
    assert rates.seconds_to_wait("key", "b") == 0
    assert rates.seconds_to_wait("visitor", "a") == 0
    assert rates.seconds_to_wait("address", "a") == 0
    assert rates.seconds_to_wait("address", "a") > 0


def test_window_that_is_over_no_longer_counts():
    rates = RateLimits("1/second", "1/second")
    assert rates.seconds_to_wait("key", "a") == 0
    deadline = time.monotonic() + 30
    while rates.seconds_to_wait("key", "a"):
        assert time.monotonic() < deadline


def test_windows_that_are_over_leave_memory():
    rates = RateLimits("1/second", "1/second")
    for n in range(1024):
        rates.seconds_to_wait("key", str(n))
    counts = rates._counts
    counts._windows = {key: (count, 0.0) for key, (count, _) in counts._windows.items()}
    rates.seconds_to_wait("key", "new")
    assert len(counts._windows) == 1


def test_rate_that_cannot_be_read_names_the_setting():
    with pytest.raises(ConfigError, match="MARQUEE_API__RATE_PER_KEY"):
        RateLimits("often", "1/second")


class Process:
    """A process that answers a batch of requests per round of its event loop, by its own clock."""

    def __init__(self, most=256, seconds_each=0.001):
        self.overload = Overload(most)
        self.now = self.answered = self.admitted = 0
        self.seconds_each = seconds_each

    def round(self, arrivals):
        """Let some requests come at once, and answer those that were let in; how many were."""
        under_way = 0
        for _ in range(arrivals):
            if self.overload.admits(under_way, self.answered, self.now):
                under_way += 1
        self.answered += under_way
        self.now += max(under_way, 1) * self.seconds_each
        return under_way


def test_burst_is_let_in_up_to_the_hard_limit():
    process = Process(most=200)
    for _ in range(50):
        assert process.round(5) == 5
    assert process.round(300) == 200
    assert process.round(5) == 5


def test_queue_that_stays_is_cut_to_what_is_answered_in_time_and_let_in_again_once_it_is_gone():
    process = Process(seconds_each=0.001)
    let_in = [process.round(200) for _ in range(20)]
    assert let_in[0] == 200
    assert let_in[-1] == 80  # 1,000 a second: 10 in 10 ms, but 80 are never too many
    for _ in range(3):
        assert process.round(10) == 10
    assert process.round(200) == 200


def test_quick_process_lets_more_in():
    process = Process(seconds_each=0.0001)
    let_in = [process.round(250) for _ in range(100)]
    assert 90 <= let_in[-1] <= 110  # 10,000 a second: 100 in 10 ms


def test_load_that_is_carried_is_never_refused():
    process = Process(seconds_each=0.001)
    for _ in range(200):
        assert process.round(80) == 80


def test_requests_that_only_wait_do_not_count():
    overload = Overload(10)
    assert not overload.admits(10, 0, 1.0)
    overload.waiting = 5
    assert overload.admits(10, 0, 1.0)
