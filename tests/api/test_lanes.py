"""A lane answers everybody once, in batches, in time or not at all."""

import asyncio
import threading

import pytest

from marquee.api.lanes import Lane, LateError

PATIENCE = 30.0


@pytest.fixture
def lanes():
    made = []

    def make(answer, **options):
        made.append(Lane("test", answer, **options))
        return made[-1]

    yield make
    for lane in made:
        lane.close()


async def test_each_question_gets_its_own_answer(lanes):
    lane = lanes(lambda questions: [2 * question for question in questions], most=7)
    answers = await asyncio.gather(*(lane.ask(number, PATIENCE) for number in range(100)))
    assert answers == [2 * number for number in range(100)]


async def test_questions_gather_while_a_batch_is_computed(lanes):
    sizes, gate = [], threading.Event()

    def answer(questions):
        gate.wait(PATIENCE)
        sizes.append(len(questions))
        return list(questions)

    lane = lanes(answer, most=50, batch_seconds=1e9)
    first = asyncio.create_task(lane.ask(0, PATIENCE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(lane.ask(number, PATIENCE)) for number in range(1, 31)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert sizes == [1, 30]


async def test_one_question_that_fails_spoils_no_other(lanes):
    def answer(questions):
        if 3 in questions:
            raise ValueError("three")
        return list(questions)

    lane = lanes(answer)
    answers = await asyncio.gather(
        *(lane.ask(number, PATIENCE) for number in range(6)), return_exceptions=True
    )
    assert [a for a in answers if not isinstance(a, Exception)] == [0, 1, 2, 4, 5]
    assert str(answers[3]) == "three"


async def test_late_answers_are_given_up_and_those_behind_them_are_made(lanes):
    gate = threading.Event()

    def answer(questions):
        if "slow" in questions:
            gate.wait(PATIENCE)
        return list(questions)

    lane = lanes(answer)
    with pytest.raises(LateError):
        await lane.ask("slow", 0.01)
    waiting = asyncio.create_task(lane.ask("quick", PATIENCE))
    await asyncio.sleep(0)
    gate.set()
    assert await waiting == "quick"


async def test_cancelled_callers_leave_the_others_alone(lanes):
    lane = lanes(lambda questions: list(questions))
    tasks = [asyncio.create_task(lane.ask(number, PATIENCE)) for number in range(10)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(4), asyncio.CancelledError)
    assert answers == [0, 1, 2, 3, 5, 6, 7, 8, 9]


async def test_closed_lane_lets_nobody_wait(lanes):
    gate = threading.Event()

    def answer(questions):
        gate.wait(PATIENCE)
        return list(questions)

    lane = lanes(answer, most=1)
    tasks = [asyncio.create_task(lane.ask(number, PATIENCE)) for number in range(3)]
    while len(lane) != 2:
        await asyncio.sleep(0)
    lane.close()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(a) for a in answers[1:]] == [LateError, LateError]
