"""A home to serve from, made once: users with their events, a catalogue, and bundles of each kind."""

import dataclasses
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import text

import _synthetic as synthetic
from marquee.config import Settings
from marquee.data import Catalog, Histories, Interactions, RankedItems
from marquee.data.schema import Event
from marquee.models import Ease, Recommender
from marquee.models.base import ModelState
from marquee.models.mlp import Mlp, MlpConfig
from marquee.recommend import RecommendationPipeline
from marquee.recommend.two_stage import TwoStage, TwoStageConfig
from marquee.store import bundles
from marquee.store.bundles import BundleRef
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, interactions, items, keys, recommendations

__all__ = ["CATALOGUE_SIZES", "HISTORY_LENGTHS", "N_ITEMS", "N_USERS", "SMALL_VOCABULARY", "Home"]

N_USERS, N_EVENTS, N_ITEMS = 100_000, 50, 10_000
TRAINING_USERS = 20_000
"""The models learn from these alone: to ask them costs the same however much they have learnt from."""
SMALL_VOCABULARY = 500
CANDIDATES = 300
LIST_LENGTH = 20

HISTORY_LENGTHS = (5, 10, 20, 50, 100, 200, 500)
USERS_PER_LENGTH = 200
CATALOGUE_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000)

OVERVIEW = (
    "Somebody of whom nobody expects it sets out to put right what went wrong long before, meets with help "
    "from an unlikely side, loses it again, and finds at the end of a long night that there is no way back."
)


class Home:
    """
    A `MARQUEE_HOME` on an embedded server.

    Args:
        settings: of the home.
        database: open.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.objects = ObjectStore(settings.paths.objects)
        self._state = settings.home / "benchmark.json"
        known = json.loads(self._state.read_text()) if self._state.exists() else {}
        self.bundles = {name: BundleRef(**ref) for name, ref in known.get("bundles", {}).items()}
        self.notes: dict[str, float] = known.get("notes", {})

    def prepare(self) -> None:
        """Make what is missing; a prepared home is used as it is."""
        catalog = _catalog(N_ITEMS)
        if "events" not in self.notes:
            _say(f"loading {N_USERS:,} users with {N_EVENTS} events each")
            rows = _interactions()
            with self.database.begin() as connection:
                items.upsert_items(connection, catalog.table, source="benchmark")
                interactions.load_interactions(connection, _keyed(rows), source="benchmark")
                interactions.load_interactions(connection, _keyed(_of_lengths()), source="lengths")
            with self.database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
            self._note("events", len(rows) / N_USERS)
        if "two_stage" not in self.bundles:
            rows = _interactions()
            few = rows.take(rows.user_ids <= TRAINING_USERS)
            for size in (SMALL_VOCABULARY, N_ITEMS):
                self._publish(f"mlp {size}", _mlp(size), catalog)
            _say(f"fitting EASE on {N_ITEMS:,} items")
            ease = Ease().fit(few, catalog)
            self._publish("ease", ease, catalog)
            state = ease.state()
            # Equal arrays under another config: another bundle to swap with, of the same cost.
            config = {**state.meta["config"], "seed": 1}
            self._publish(
                "ease again", Ease.from_state(ModelState(state.arrays, {"config": config})), catalog
            )
            _say(f"computing the lists of {N_USERS:,} users")
            np.savez(self._lists, allow_pickle=False, **_lists(ease, catalog, rows))
            _say("fitting the two stages")
            two_stage, width = _two_stage(few, catalog)
            self._publish("two_stage", two_stage, catalog)
            self._note("candidates", width)

    def put(self, slot: deployments.Slot, name: str) -> str:
        """Deploy a bundle by the name it has here; returns how the API calls it."""
        if name not in self.bundles:
            size = int(name.removeprefix("ease of "))
            self._publish(name, _synthetic_ease(size), _catalog(size))
        ref = self.bundles[name]
        with self.database.begin() as connection:
            deployments.append(
                connection,
                slot,
                bundle=ref.key,
                digest=ref.digest,
                model=ref.model,
                version=ref.version,
                deployed_by="benchmark",
                reason="benchmark",
            )
        return self.name(name)

    def name(self, name: str) -> str:
        """What the API calls a bundle."""
        return f"{self.bundles[name].model}/{self.bundles[name].version}"

    @cached_property
    def service_key(self) -> str:
        """A new key that may do what the measurements do."""
        with self.database.begin() as connection:
            return keys.create(connection, "benchmark", "service")[1]

    def precompute(self, *, present: bool) -> None:
        """Write everyone's lists by EASE, or nobody's."""
        with np.load(self._lists) as stored:
            users, ids, scores = stored["user_ids"], stored["item_ids"], stored["scores"]
        if not present:
            users, ids, scores = users[:0], ids[:0], scores[:0]
        with self.database.begin() as connection:
            recommendations.replace_all(
                connection, users, RankedItems(ids, scores), bundle=self.bundles["ease"].key
            )

    def reset(self) -> None:
        """Forget what earlier runs have left: answers, and the events that they sent."""
        with self.database.begin() as connection:
            connection.execute(text("TRUNCATE impressions, predictions, shadow_answers"))
            connection.execute(text("DELETE FROM interactions WHERE source = 'live'"))

    def rows(self, query: str, **parameters: object) -> Sequence[Any]:
        """The rows of a query."""
        with self.database.begin() as connection:
            return connection.execute(text(query), parameters).all()

    @staticmethod
    def users_of_length(length: int) -> tuple[int, int]:
        """First and last of the users who have just so many events."""
        first = _first_of_length(length)
        return first, first + USERS_PER_LENGTH - 1

    @property
    def _lists(self) -> Path:
        return self.settings.home / "lists.npz"

    def _publish(self, name: str, model: Recommender, catalog: Catalog) -> None:
        self.bundles[name] = bundles.publish(
            self.objects,
            model.state(),
            model=model.name,
            cards=catalog.table,
            metrics={},
            snapshot="synthetic",
            code_version="benchmark",
        )
        self._keep()

    def _note(self, name: str, value: float) -> None:
        self.notes[name] = value
        self._keep()

    def _keep(self) -> None:
        refs = {name: dataclasses.asdict(ref) for name, ref in self.bundles.items()}
        self._state.write_text(json.dumps({"bundles": refs, "notes": self.notes}, indent=1))


def _synthetic_ease(size: int) -> Ease:
    """Weights of no meaning: what a catalogue costs, without the hours of solving for it."""
    rng = np.random.default_rng(0)
    state = ModelState(
        {
            "item_ids": np.arange(1, size + 1),
            "item_counts": np.arange(size, 0, -1),
            "popularity": np.linspace(1.0, 0.0, size, dtype=np.float32),
            "dense": rng.standard_normal((size, size), np.float32),
        },
        {"config": Ease().config.to_dict()},
    )
    return Ease.from_state(state)


def _say(what: str) -> None:
    print(f"preparing: {what}", flush=True)


def _interactions() -> Interactions:
    return synthetic.interactions(N_USERS * N_EVENTS, N_USERS, N_ITEMS, spread=0.0)


def _catalog(n: int) -> Catalog:
    table = synthetic.catalog(n).table
    ids = table["item_id"].to_pylist()
    for name, values in (
        ("overview", [f"{OVERVIEW} ({i})" for i in ids]),
        ("poster_path", [f"/poster-of-film-{i}.jpg" for i in ids]),
    ):
        column = pa.array(values)
        place = table.schema.get_field_index(name)
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    return Catalog(table)


def _keyed(rows: Interactions) -> pa.Table:
    return rows.to_arrow().append_column("event_key", pa.array(map(str, range(len(rows))), pa.string()))


def _first_of_length(length: int) -> int:
    return 10_000_000 + 1_000 * length


def _of_lengths() -> Interactions:
    """Users with few, many and very many events, of items that the smallest catalogue has too."""
    rng = np.random.default_rng(3)
    users, chosen, times = [], [], []
    for length in HISTORY_LENGTHS:
        for user in range(USERS_PER_LENGTH):
            users.append(np.full(length, _first_of_length(length) + user))
            chosen.append(1 + rng.choice(CATALOGUE_SIZES[0], length, replace=False))
            times.append(1_500_000_000_000_000 + 3_600_000_000 * np.arange(length))
    return Interactions.of(
        np.concatenate(users),
        np.concatenate(chosen),
        np.concatenate(times),
        ratings=np.full(sum(map(len, users)), 8.0),
    )


def _mlp(size: int) -> Mlp:
    """A network of that many films, trained for one epoch."""
    rng = np.random.default_rng(4)
    films = np.tile(np.arange(1, size + 1), 20)
    rng.shuffle(films)
    n = len(films)
    rows = Interactions.of(
        np.arange(1, n + 1),
        films,
        np.arange(n) + 1_500_000_000_000_000,
        events=Event.WATCH,
        ratings=rng.integers(1, 11, n),
        watch_seconds=rng.integers(60, 10_000, n),
    )
    known = {film: 100.0 * 0.999**film for film in range(1, size + 1)}
    _say(f"training the perceptron on {size:,} films")
    return Mlp(MlpConfig(max_epochs=1)).fit(rows, item_popularity=known)


def _lists(model: Ease, catalog: Catalog, rows: Interactions) -> dict[str, np.ndarray]:
    histories = rows.histories()
    pipeline = RecommendationPipeline(model, catalog)
    parts = [
        pipeline.recommend(histories.take(slice(start, start + 2048)), LIST_LENGTH)
        for start in range(0, len(histories), 2048)
    ]
    return {
        "user_ids": histories.user_ids,
        "item_ids": np.concatenate([part.item_ids for part in parts]),
        "scores": np.concatenate([part.scores for part in parts]),
    }


def _two_stage(rows: Interactions, catalog: Catalog) -> tuple[TwoStage, float]:
    """The two stages, each source proposing so much that 300 candidates remain; and how many those are."""
    model = TwoStage(TwoStageConfig(windows=1, queries=2_000)).fit(rows, catalog)
    asked = rows.take(rows.user_ids <= 100).histories()
    state = model.state()
    widths: dict[int, float] = {}
    low, high = 10, 300
    while low < high:
        depth = (low + high) // 2
        widths[depth] = _candidates(_at_depth(state, depth), asked)
        low, high = (depth + 1, high) if widths[depth] < CANDIDATES else (low, depth)
    best = min(widths, key=lambda depth: abs(widths[depth] - CANDIDATES))
    return _at_depth(state, best), widths[best]


def _at_depth(state: ModelState, depth: int) -> TwoStage:
    config = {**state.meta["config"], "depth": depth}
    return TwoStage.from_state(ModelState(state.arrays, {**state.meta, "config": config}))


def _candidates(model: TwoStage, histories: Histories) -> float:
    """Mean number of candidates of a history."""
    proposed, _ = model._stage.candidates(histories)
    return float(np.diff(proposed.indptr).mean())


def describe(notes: dict[str, float]) -> Sequence[str]:
    """What the home holds, in words."""
    return [
        f"{N_USERS:,} users with {notes['events']:.1f} events on average, {N_ITEMS:,} items",
        f"two stages: {notes['candidates']:.0f} candidates on average",
    ]
