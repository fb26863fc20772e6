"""
The recommender as requests see it.

    user → arm of the experiment → champion → precomputed list → popular

Each step answers what the one before it could not answer in time, and says so. What a user has seen, hidden
or disliked is taken out of every one of them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final
from uuid import UUID

import numpy as np
from prometheus_client import Counter

from marquee.api.answers import Answer, Query
from marquee.api.lanes import Lane, LateError
from marquee.api.lists import Made, Question, explained, make, popular, precomputed, similar, without_model
from marquee.api.served import Served
from marquee.api.slots import Slots
from marquee.api.users import EMPTY, UserState, UserStates
from marquee.api.writer import Journal
from marquee.config import ApiSettings
from marquee.errors import StoreError
from marquee.store.repositories.experiments import Experiment
from marquee.store.repositories.impressions import Impression, ShadowAnswer
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import ANSWERS, FALLBACKS, SHADOW_AGREEMENT, SHADOW_ERRORS, SHADOW_SECONDS
from marquee.telemetry.spans import as_span

__all__ = ["Engine"]

REPLAYED: Final = 50
"""Newest requests that warm a bundle up before it answers."""
SHADOW_TOGETHER: Final = 8
"""A shadow's batches are short: they share the core with what people wait for."""
SHADOW_QUEUE: Final = 64
"""Requests that wait for a shadow; further ones it does not see."""
SHADOW_PATIENCE_SECONDS: Final = 5.0


class Engine:
    """
    Lists for users, sessions and everybody.

    Args:
        slots: what answers.
        users: what is known of users.
        journal: what was answered.
        settings: of the API.
    """

    def __init__(self, slots: Slots, users: UserStates, journal: Journal, settings: ApiSettings) -> None:
        self._slots = slots
        self._users = users
        self._journal = journal
        self._deadline = settings.deadline_ms / 1000
        self._exploration = settings.exploration
        self._rng = np.random.default_rng()
        # A slow arm must not hold up everybody else, and a shadow nobody.
        self._lane: Lane[Question, Made] = Lane("recommend", self._answer_batch)
        self._arms: Lane[Question, Made] = Lane("arms", self._answer_batch)
        self._shadow: Lane[Question, Made] = Lane("shadow", self._answer_batch, most=SHADOW_TOGETHER)
        self._shadowing: set[asyncio.Task[None]] = set()
        self._recent: deque[tuple[UserState, Query]] = deque(maxlen=REPLAYED)
        slots.warm_up = self.replay

    @property
    def waiting(self) -> dict[str, int]:
        """Stage → questions that wait for it."""
        return {"recommend": len(self._lane), "arms": len(self._arms), "shadow": len(self._shadow)}

    async def for_user(self, user_id: int, query: Query, request_id: UUID) -> Answer:
        """
        The list of a user; somebody unknown gets popular items.

        Raises:
            NoChampionError: there is nothing to recommend by.
        """
        started = time.perf_counter()
        degraded: tuple[str, ...] = ()
        try:
            state = await self._users.get(user_id)
        except StoreError:
            state = self._users.cached(user_id) or _unknown(user_id)
            degraded = ("database",)
        answer = await self._answer(state, query, self._deadline - (time.perf_counter() - started))
        return self._given(answer, state, query, request_id, "recommendations", started, degraded)

    async def for_session(self, state: UserState, query: Query, request_id: UUID) -> Answer:
        """
        The list of somebody of whom only this session is known.

        Raises:
            NoChampionError: there is nothing to recommend by.
        """
        started = time.perf_counter()
        answer = await self._by_champion(state, query, self._deadline)
        if answer.tier == "personal":
            answer.tier = "session"
        return self._given(answer, state, query, request_id, "session", started)

    async def many(self, user_ids: Sequence[int], query: Query, request_ids: Sequence[UUID]) -> list[Answer]:
        """
        The lists of several users, in their order.

        Raises:
            NoChampionError: there is nothing to recommend by.
        """
        started = time.perf_counter()
        degraded: tuple[str, ...] = ()
        try:
            states = await self._users.get_many(user_ids)
        except StoreError:
            states = [self._users.cached(user_id) or _unknown(user_id) for user_id in user_ids]
            degraded = ("database",)
        # Nobody waits for the others of a page, but for all of a batch.
        patience = self._deadline * len(states)
        answers = await asyncio.gather(*(self._answer(state, query, patience) for state in states))
        return [
            self._given(answer, state, query, request_id, "batch", started, degraded)
            for answer, state, request_id in zip(answers, states, request_ids, strict=True)
        ]

    async def popular(self, query: Query, request_id: UUID) -> Answer:
        """
        What is popular with everybody.

        Raises:
            NoChampionError: there is nothing to recommend by.
        """
        started = time.perf_counter()
        champion = self._slots.champion()
        if query.diversity:  # takes longer than others should wait
            answer = await asyncio.to_thread(popular, champion, query, EMPTY.seen, diversity=query.diversity)
        else:
            answer = popular(champion, query, EMPTY.seen)
        return self._given(answer, EMPTY, query, request_id, "popular", started)

    def similar(self, item_id: int, query: Query, request_id: UUID) -> Answer:
        """
        What is like an item.

        Raises:
            NoChampionError: there is nothing to recommend by.
            NotFoundError: the item is in no catalogue.
        """
        started = time.perf_counter()
        answer = similar(self._slots.champion(), item_id, query)
        return self._given(answer, EMPTY, query, request_id, "similar", started)

    def replay(self, served: Served) -> None:
        """Have a bundle that is about to answer make the newest lists, so that it is warm."""
        for state, query in list(self._recent):
            make([Question(served.pipeline, state, query, 0.0)], self._rng)

    def close(self) -> None:
        """Let go of the threads."""
        for lane in (self._lane, self._arms, self._shadow):
            lane.close()

    def _given(
        self,
        answer: Answer,
        state: UserState,
        query: Query,
        request_id: UUID,
        surface: str,
        started: float,
        degraded: tuple[str, ...] = (),
    ) -> Answer:
        """Note that an answer is about to be given."""
        answer.degraded = (*degraded, *answer.degraded)
        answer.duration_ms = (time.perf_counter() - started) * 1000
        _answers(surface, answer.tier).inc()
        self._journal.impression(
            Impression(
                request_id,
                datetime.now(UTC),
                state.user_id if state.user_id >= 0 else None,
                answer.item_ids,
                answer.scores,
                answer.propensities,
                answer.served.bundle,
                answer.arm,
                surface,
                answer.tier,
                answer.experiment_id,
                answer.duration_ms,
                answer.error,
            )
        )
        shadow = self._slots.get("shadow")
        if shadow is not None and answer.source == "model" and len(self._shadow) < SHADOW_QUEUE:
            task = asyncio.create_task(self._answer_unseen(shadow, answer, state, query, request_id))
            self._shadowing.add(task)
            task.add_done_callback(self._shadowing.discard)
        return answer

    async def _answer_unseen(
        self, shadow: Served, shown: Answer, state: UserState, query: Query, request_id: UUID
    ) -> None:
        """What the shadow would have answered, for the record."""
        started = time.perf_counter()
        item_ids: list[int] = []
        scores: list[float] = []
        error = None
        try:
            made = await self._shadow.ask(
                Question(shadow.pipeline, state, query, 0.0), SHADOW_PATIENCE_SECONDS
            )
            item_ids, scores = made.item_ids, made.scores
        except LateError:
            return  # dropped: there is too much to do
        except Exception as failure:
            SHADOW_ERRORS.inc()
            error = _reason(failure)
        seconds = time.perf_counter() - started
        agreement = len(set(item_ids) & set(shown.item_ids)) / max(len(shown.item_ids), 1)
        SHADOW_SECONDS.observe(seconds)
        SHADOW_AGREEMENT.observe(agreement)
        self._journal.shadow(
            ShadowAnswer(
                request_id,
                datetime.now(UTC),
                shadow.bundle,
                item_ids,
                scores,
                agreement,
                seconds * 1000,
                error,
            )
        )

    def _answer_batch(self, questions: Sequence[Question]) -> list[Made | Exception]:
        return make(questions, self._rng)

    async def _answer(self, state: UserState, query: Query, seconds: float) -> Answer:
        experiment = self._slots.experiment
        if experiment is None:
            return await self._by_champion(state, query, seconds)
        return await self._by_arm(experiment, state, query, seconds)

    async def _by_arm(self, experiment: Experiment, state: UserState, query: Query, seconds: float) -> Answer:
        arm = experiment.arm_of(state.user_id)
        served, champion = self._slots.arm(arm.digest), self._slots.champion()
        if served is not None and served.model is champion.model:
            answer = await self._by_champion(state, query, seconds)
        else:
            started = time.perf_counter()
            try:
                if served is None:
                    raise LookupError("its bundle could not be loaded")
                answer = await self._by_model(served, state, query, seconds, self._arms)
            except Exception as error:
                FALLBACKS.labels("arm").inc()
                left = seconds - (time.perf_counter() - started)
                answer = await self._by_champion(state, query, max(left, 0.0))
                answer.error = _reason(error)
        answer.arm, answer.experiment_id = arm.name, experiment.experiment_id
        return answer

    async def _by_champion(self, state: UserState, query: Query, seconds: float) -> Answer:
        champion = self._slots.champion()
        if query.is_plain:
            ready = precomputed(champion, state, query, self._exploration)
            if ready is not None:
                return ready
        try:
            return await self._by_model(champion, state, query, seconds, self._lane)
        except Exception as error:
            late = isinstance(error, LateError)
            FALLBACKS.labels("deadline" if late else "error").inc()
            if not late:
                get_logger().exception("engine.champion_failed", bundle=champion.name)
            answer = without_model(champion, state, query)
            answer.degraded = ("deadline" if late else "model",)
            return answer

    @as_span("engine.batch")
    async def _by_model(
        self, served: Served, state: UserState, query: Query, seconds: float, lane: Lane[Question, Made]
    ) -> Answer:
        self._recent.append((state, query))
        made = await lane.ask(Question(served.pipeline, state, query, self._exploration), seconds)
        answer = Answer(
            made.item_ids,
            made.scores,
            "personal" if made.personal else "popular",
            "model",
            made.qualified,
            served,
            propensities=made.propensities,
        )
        if query.explain:
            answer.reasons = await asyncio.to_thread(explained, served, state, made.item_ids)
        return answer


@cache
def _answers(surface: str, tier: str) -> Counter:
    return ANSWERS.labels(surface, tier)  # which looks its labels up anew each time


def _unknown(user_id: int) -> UserState:
    return UserState(user_id, EMPTY.events, EMPTY.seen, None)


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, LateError) else f"{type(error).__name__}: {error}"[:200]
