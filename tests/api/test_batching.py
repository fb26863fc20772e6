import asyncio

import pytest

from marquee.api.batching import Batcher


class Doubler:
    """Doubles numbers, remembers its batches, and fails on a 13."""

    def __init__(self):
        self.batches = []

    def __call__(self, numbers):
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


async def now(number):
    return number


async def after(event, number):
    await event.wait()
    return number


async def test_concurrent_calls_share_a_batch_and_get_their_own_answers():
    double = Doubler()
    batcher = Batcher("test", double, most=32)
    assert await asyncio.gather(*(batcher.ask(now(i)) for i in range(10))) == [2 * i for i in range(10)]
    assert double.batches == [list(range(10))]


async def test_batches_are_no_larger_than_most():
    double = Doubler()
    batcher = Batcher("test", double, most=4)
    assert await asyncio.gather(*(batcher.ask(now(i)) for i in range(11))) == [2 * i for i in range(11)]
    assert [len(batch) for batch in double.batches] == [4, 4, 3]


async def test_lone_call_is_answered_alone():
    double = Doubler()
    batcher = Batcher("test", double, most=32)
    assert await batcher.ask(now(1)) == 2
    assert await batcher.ask(now(2)) == 4
    assert double.batches == [[1], [2]]


async def test_batch_does_not_wait_for_ever_for_those_who_come():
    batcher, never = Batcher("test", Doubler(), most=32), asyncio.Event()
    coming = asyncio.create_task(batcher.ask(after(never, 1)))
    await asyncio.sleep(0)
    assert await batcher.ask(now(2)) == 4
    never.set()
    assert await coming == 2


async def test_call_that_fails_on_its_way_holds_nobody_up():
    batcher, event = Batcher("test", Doubler(), most=32), asyncio.Event()

    async def failing():
        await event.wait()
        raise LookupError

    coming = asyncio.create_task(batcher.ask(failing()))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(batcher.ask(now(3)))
    event.set()
    with pytest.raises(LookupError):
        await coming
    assert await waiting == 6


async def test_failure_of_a_batch_is_that_of_each_call_and_not_of_the_next():
    batcher = Batcher("test", Doubler(), most=32)
    found = await asyncio.gather(*(batcher.ask(now(i)) for i in (1, 13)), return_exceptions=True)
    assert [type(error) for error in found] == [ValueError, ValueError]
    assert await batcher.ask(now(1)) == 2


async def test_call_that_was_given_up_is_not_answered():
    double, event = Doubler(), asyncio.Event()
    batcher = Batcher("test", double, most=32)
    given_up = asyncio.create_task(batcher.ask(now(1)))
    waiting = asyncio.create_task(batcher.ask(after(event, 2)))
    await asyncio.sleep(0)
    given_up.cancel()
    event.set()
    assert await waiting == 4
    assert double.batches == [[2]]
