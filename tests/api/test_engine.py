"""What the engine answers, whatever is asked of it and whatever fails."""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.api.answers import Query
from marquee.api.engine import Engine
from marquee.api.listener import Listener
from marquee.api.served import Around
from marquee.api.slots import Followed, Slots
from marquee.api.users import EVENTS, Precomputed, UserState, UserStates
from marquee.api.writer import Journal
from marquee.config import ApiSettings, DatabaseSettings
from marquee.data import Event
from marquee.errors import NoChampionError, NotFoundError
from marquee.models import model_class
from marquee.models.base import Recommender
from marquee.recommend import Filters, RecommendationPipeline
from marquee.recommend.similar import SimilarItems
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories.deployments import Deployment
from marquee.store.repositories.experiments import Arm, Experiment
from marquee.testing import planted_tastes

GENRES = ("Western", "Horror", "Romance", "Animation")
TWO_STAGE = {
    "sources": ("ease", "item_knn", "content"),
    "windows": 4,
    "trees": 10,
    "depth": 30,
    "min_pairs": 50,
}
MODELS = {"popularity": {}, "ease": {}, "item_knn": {}, "two_stage": TWO_STAGE}
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
PATIENCE = 30.0
SOAK = os.environ.get("MARQUEE_SOAK") == "1"


@cache
def fitted(name: str) -> Recommender:
    tastes = planted_tastes()
    kind = model_class(name)
    return kind(kind.Config.from_dict(MODELS[name])).fit(tastes.interactions, tastes.catalog)


@cache
def similar_items() -> SimilarItems:
    return SimilarItems.fit(planted_tastes().interactions, planted_tastes().catalog)


@dataclass
class Home:
    """An engine over bundles alone: no database is asked for a session."""

    store: ObjectStore
    slots: Slots
    engine: Engine

    def publish(self, model: Recommender) -> Deployment:
        """The deployment of a model's bundle."""
        ref = bundles.publish(
            self.store,
            model.state(),
            model=model.name,
            cards=planted_tastes().catalog.table,
            metrics={},
            snapshot="none",
            code_version="test",
            similar=similar_items(),
        )
        return Deployment(
            1, "champion", ref.key, ref.digest, ref.model, ref.version, "test", "test", None, None,
            datetime.now(UTC),
        )  # fmt: skip

    def ask(self, state: UserState, query: Query):
        return self.engine.for_session(state, query, uuid4())


@contextmanager
def home(folder: Path, **chosen) -> Iterator[Home]:
    database = Database(NOWHERE, DatabaseSettings())
    listener = Listener(database)
    store = ObjectStore(folder / "objects")
    slots = Slots(store, folder / "bundles")
    options = ApiSettings(**{"deadline_ms": PATIENCE * 1000 / 10, **chosen})
    engine = Engine(slots, UserStates(database, listener, 2**20), Journal(database), options)
    try:
        yield Home(store, slots, engine)
    finally:
        engine.close()
        slots.close()
        database.close()


@pytest.fixture
def served(tmp_path):
    with home(tmp_path) as made:
        yield made


def state_of(items=(), events=Event.WATCH, ratings=np.nan, user_id=7, precomputed=None) -> UserState:
    rows = np.zeros(len(items), EVENTS)
    rows["item"], rows["event"], rows["rating"], rows["watch"] = items, events, ratings, np.nan
    rows["timestamp"] = np.arange(len(items))
    seen = np.unique(rows["item"][rows["event"] != Event.CLICK])
    return UserState(user_id, rows, seen, precomputed)


def canary(first: Deployment, second: Deployment, share: float = 0.5) -> Experiment:
    arms = tuple(
        Arm(name, part, d.bundle, d.digest, d.model, d.version)
        for name, part, d in (("champion", 1 - share, first), ("challenger", share, second))
    )
    return Experiment(3, "canary", "canary", arms, "salt", {}, "running", "test", "test", datetime.now(UTC))


ITEMS = planted_tastes().catalog.item_ids.tolist()
events = st.lists(
    st.tuples(
        st.sampled_from([*ITEMS, 10**9]),
        st.one_of(
            st.tuples(st.sampled_from([Event.WATCH, Event.LIKE, Event.HIDE, Event.CLICK]), st.just(np.nan)),
            st.tuples(st.just(Event.RATE), st.sampled_from([1.0, 9.0])),
        ),
    ),
    max_size=60,
)
queries = st.builds(
    Query,
    k=st.integers(1, 60),
    filters=st.builds(
        Filters,
        genres=st.lists(st.sampled_from(GENRES), max_size=2).map(tuple),
        include_adult=st.booleans(),
    ),
    exclude=st.lists(st.sampled_from(ITEMS), max_size=5).map(tuple),
    diversity=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
)
lists = st.none() | st.lists(st.sampled_from(ITEMS), min_size=1, max_size=20, unique=True)


@pytest.fixture(scope="module", params=list(MODELS))
def engines(request, tmp_path_factory):
    """Engines with a champion, hurried and not; the loop in which they answer."""
    with (
        asyncio.Runner() as runner,
        home(tmp_path_factory.mktemp("home")) as one,
        home(tmp_path_factory.mktemp("hurried"), deadline_ms=0.001) as other,
    ):
        for made in (one, other):
            deployment = made.publish(fitted(request.param))
            runner.run(made.slots.follow(Followed({"champion": deployment})))
        yield runner, one, other


@settings(max_examples=1_000 if SOAK else 40)
@given(history=events, query=queries, precomputed=lists, older=st.lists(st.sampled_from(ITEMS), max_size=8))
def test_what_was_seen_hidden_or_disliked_never_comes_back(engines, history, query, precomputed, older):
    """Whatever the model, the filters and the path; and filters fill k where enough items qualify."""
    runner, one, hurried = engines
    state = state_of(
        [item for item, _ in history], [kind for _, (kind, _) in history], [r for _, (_, r) in history]
    )
    state = UserState(7, state.events, np.union1d(state.seen, np.array(older, np.int64)), None)
    bundle = one.slots.champion().bundle
    if precomputed is not None:
        scores = np.linspace(1, 0, len(precomputed), dtype=np.float32)
        state = replace(state, precomputed=Precomputed(np.array(precomputed), scores, bundle))
    tastes = planted_tastes()
    qualified = {
        item
        for item in ITEMS
        if item not in state.seen
        and item not in query.exclude
        and (not query.filters.genres or GENRES[tastes.genre_of_item[item]] in query.filters.genres)
    } & set(one.slots.champion().pipeline.scorer.items.ids.tolist())
    for made in (one, hurried):
        answer = runner.run(made.ask(state, query))
        assert len(set(answer.item_ids)) == len(answer.item_ids)
        assert set(answer.item_ids) <= qualified
        assert answer.qualified == len(qualified)
        assert len(answer.item_ids) == min(query.k, len(qualified))
        assert len(answer.scores) == len(answer.item_ids)


class Slow(Recommender):
    """Takes its time, or fails, like a model that should not have been deployed."""

    name = "slow"

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        super().__init__()
        self.seconds, self.error = seconds, error
        self.inner = fitted("popularity")
        self._items, self._item_counts = self.inner.items, self.inner.item_counts

    def fit(self, *_, **__):
        raise NotImplementedError

    def state(self):
        raise NotImplementedError

    @classmethod
    def from_state(cls, _):
        raise NotImplementedError

    def score(self, histories):
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.inner.score(histories)


async def serve(made: Home, **models: Recommender) -> dict[str, Deployment]:
    """Put models into slots; they are published as popularity and take over once loaded."""
    deployed = {}
    for number, (slot, model) in enumerate(models.items(), start=1):
        real = model if not isinstance(model, Slow) else fitted("popularity")
        deployed[slot] = replace(made.publish(real), deployment_id=number, slot=slot)
    await made.slots.follow(Followed(deployed))
    for slot, model in models.items():
        if isinstance(model, Slow):
            take_over(made, slot, model)
    return deployed


def take_over(made: Home, role: str, model: Slow) -> None:
    before = made.slots._served[role]
    around = Around(model, before.shelf)
    around.pipeline = RecommendationPipeline(model, before.shelf.catalog)  # not warm, which would take long
    made.slots._served = {**made.slots._served, role: replace(before, model=model, around=around)}


async def test_deadline_is_kept_by_simpler_lists(tmp_path):
    """Precomputed where there is a list, else popular; neither with what was seen."""
    with home(tmp_path, deadline_ms=20) as made:
        await serve(made, champion=Slow(seconds=0.3))
        popular = await made.ask(state_of(ITEMS[:3]), Query())
        assert (popular.tier, popular.source, popular.degraded) == ("popular", "popular", ("deadline",))
        assert not set(popular.item_ids) & set(ITEMS[:3])
        ready = Precomputed(np.array(ITEMS[2:20]), np.linspace(1, 0, 18, dtype=np.float32), "another")
        listed = await made.ask(state_of(ITEMS[:3], precomputed=ready), Query())
        assert (listed.tier, listed.source, listed.degraded) == ("session", "precomputed", ("deadline",))
        assert listed.item_ids == ITEMS[3:13]


async def test_champion_that_fails_is_stood_in_for(tmp_path):
    with home(tmp_path) as made:
        await serve(made, champion=Slow(error=RuntimeError("broken")))
        answer = await made.ask(state_of(ITEMS[:1]), Query())
        assert (answer.source, answer.degraded) == ("popular", ("model",))


async def test_precomputed_list_of_the_champion_answers_plain_requests_only(served):
    await serve(served, champion=fitted("ease"))
    bundle = served.slots.champion().bundle
    ready = Precomputed(np.array(ITEMS[::-1][:20]), np.linspace(1, 0, 20, dtype=np.float32), bundle)
    state = state_of([ITEMS[-1]], precomputed=ready)
    plain = await served.ask(state, Query())
    assert (plain.source, plain.item_ids) == ("precomputed", ITEMS[::-1][1:11])
    for query in (
        Query(k=20),
        Query(filters=Filters(genres=GENRES)),
        Query(diversity=0.5),
        Query(explain=True),
    ):
        assert (await served.ask(state, query)).source == "model"
    of_another = replace(state, precomputed=replace(ready, bundle="another"))
    assert (await served.ask(of_another, Query())).source == "model"


async def test_arms_are_sticky_and_each_answers_by_its_bundle(served):
    deployed = await serve(served, champion=fitted("ease"), challenger=fitted("item_knn"))
    experiment = canary(deployed["champion"], deployed["challenger"])
    await served.slots.follow(Followed({"champion": deployed["champion"]}, experiment))
    seen = set()
    for user_id in range(40):
        state = state_of(ITEMS[:4], user_id=user_id)
        answers = [await served.engine._answer(state, Query(), PATIENCE) for _ in range(3)]
        arm = experiment.arm_of(user_id)
        assert {(a.arm, a.experiment_id, a.error) for a in answers} == {(arm.name, 3, None)}
        assert {a.served.bundle for a in answers} == {arm.bundle}
        seen.add(arm.name)
    assert seen == {"champion", "challenger"}


async def test_arm_that_fails_is_answered_for_by_the_champion(served):
    deployed = await serve(served, champion=fitted("ease"), challenger=fitted("item_knn"))
    experiment = canary(deployed["champion"], deployed["challenger"], share=1 - 1e-12)
    await served.slots.follow(Followed({"champion": deployed["champion"]}, experiment))
    take_over(served, f"arm {deployed['challenger'].digest}", Slow(error=RuntimeError("broken")))
    answer = await served.engine._answer(state_of(ITEMS[:4]), Query(), PATIENCE)
    assert (answer.arm, answer.served.bundle) == ("challenger", deployed["champion"].bundle)
    assert answer.error == "RuntimeError: broken"
    assert (answer.source, answer.degraded) == ("model", ())


async def test_end_of_an_experiment_is_obeyed_and_its_bundle_let_go(served):
    deployed = await serve(served, champion=fitted("ease"), challenger=fitted("item_knn"))
    experiment = canary(deployed["champion"], deployed["challenger"])
    champion = {"champion": deployed["champion"]}
    await served.slots.follow(Followed(champion, experiment))
    await served.slots.follow(Followed(champion))
    assert served.slots.experiment is None
    assert served.slots.arm(deployed["challenger"].digest) is None


async def test_shadow_answers_the_same_unseen(served):
    await serve(served, champion=fitted("ease"), shadow=fitted("item_knn"))
    kept = []
    served.engine._journal.shadow = kept.append
    answer = await served.ask(state_of(ITEMS[:4]), Query())
    await asyncio.gather(*served.engine._shadowing)
    assert answer.served.name.startswith("ease/")
    (row,) = kept
    both = set(row.item_ids) & set(answer.item_ids)
    assert row.agreement == pytest.approx(len(both) / 10)
    assert (row.bundle, row.error) == (served.slots.get("shadow").bundle, None)


async def test_shadow_that_fails_is_noted_and_nothing_else(served):
    await serve(served, champion=fitted("ease"), shadow=Slow(error=RuntimeError("broken")))
    kept = []
    served.engine._journal.shadow = kept.append
    answer = await served.ask(state_of(ITEMS[:4]), Query())
    await asyncio.gather(*served.engine._shadowing)
    assert (answer.source, answer.degraded) == ("model", ())
    assert kept[0].error == "RuntimeError: broken"


async def test_exploration_says_how_probable_each_place_was(tmp_path):
    with home(tmp_path, exploration=0.3) as made:
        await serve(made, champion=fitted("ease"))
        answers = [await made.ask(state_of(ITEMS[:4]), Query()) for _ in range(20)]
        chances = np.array([answer.propensities for answer in answers])
        assert ((chances > 0) & (chances <= 1)).all()
        assert (chances < 0.2).any()
        assert not set(np.ravel([answer.item_ids for answer in answers])) & set(ITEMS[:4])


async def test_similar_items_are_the_bundles_as_far_as_they_may_be_shown(served):
    await serve(served, champion=fitted("ease"))
    item = ITEMS[5]
    expected = [i for i, _ in next(similar_items().similar([item], 10).rows())]
    assert served.engine.similar(item, Query(), uuid4()).item_ids == expected
    query = Query(k=3, exclude=(expected[0],))
    assert served.engine.similar(item, query, uuid4()).item_ids == expected[1:4]
    with pytest.raises(NotFoundError):
        served.engine.similar(10**9, Query(), uuid4())


def mapped(folder):
    """Names of the folders in there of which this process has a file in its memory."""
    files = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    return {Path(file).parent.name for file in files if str(folder) in file}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
async def test_swaps_under_load_fail_nobody_and_leave_nothing_behind(tmp_path):
    """Not even until the next garbage collection: what was served is mapped no more."""
    n_swaps = 50 if SOAK else 8
    with home(tmp_path) as made:
        each = [
            replace(made.publish(fitted(name)), deployment_id=i)
            for i, name in enumerate(("ease", "item_knn"))
        ]
        await made.slots.follow(Followed({"champion": each[0]}))
        bundles_seen, stopped = set(), asyncio.Event()

        async def visit(number):
            while not stopped.is_set():
                answer = await made.ask(state_of(ITEMS[number : number + 4]), Query())
                assert (answer.degraded, len(answer.item_ids)) == ((), 10)
                bundles_seen.add(answer.served.bundle)

        visitors = [asyncio.create_task(visit(number)) for number in range(8)]
        gc.collect()
        gc.disable()
        try:
            for swap in range(1, n_swaps + 1):
                await made.slots.follow(Followed({"champion": each[swap % 2]}))
                assert made.slots.champion().bundle == each[swap % 2].bundle
            stopped.set()
            await asyncio.gather(*visitors)
            digest = Path(each[n_swaps % 2].bundle).name.partition(".")[0]
            # A thread that has given the last answer may not yet have let go of what it was computed from.
            async with asyncio.timeout(30):
                while mapped(tmp_path / "bundles") != {digest}:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
        assert bundles_seen == {deployment.bundle for deployment in each}


async def test_process_starts_with_what_it_followed_last(tmp_path):
    with home(tmp_path) as made:
        await serve(made, champion=fitted("ease"))
        expected = await made.ask(state_of(ITEMS[:4]), Query())
    (tmp_path / "objects").rename(tmp_path / "away")
    with home(tmp_path) as made:
        with pytest.raises(NoChampionError):
            made.slots.champion()
        await made.slots.restore()
        answer = await made.ask(state_of(ITEMS[:4]), Query())
        assert answer.item_ids == expected.item_ids


async def test_unreadable_memory_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "deployed.json").write_text("{")
    with home(tmp_path) as made:
        await made.slots.restore()
