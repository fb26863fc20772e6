"""
From a model to the lists that are judged, and the ceiling and floor beside them.

The catalogue is the items of the fit data, most frequent first, so that "equal scores: higher count, then
lower id" is "first in the catalogue". What is already known to the user is taken out here, whatever the model
did about it.
"""

import hashlib
import inspect
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import Event
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth, Window
from marquee.errors import ModelError
from marquee.evaluation.metrics import listed_in
from marquee.evaluation.slices import CUTS
from marquee.models.base import Progress, Recommender, silent

__all__ = [
    "K",
    "Lists",
    "PlainModel",
    "RankingCache",
    "Rankings",
    "WindowModel",
    "oracle_lists",
    "random_lists",
    "rank_histories",
    "rank_window",
]

K: Final = 20
"""Length of the judged lists."""
SCORE_CELLS: Final = 2**24
"""Scores held at a time where they must be put in another order."""
SOURCES: Final = ("data", "evaluation", "features", "models", "recommend")
"""The packages whose code can change a list."""

Lists = NDArray[np.int64]  # (n_queries, K) external ids in rank order, -1 as padding


class PlainModel(Protocol):
    """What evaluation needs of a model; every `Recommender` is one."""

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Any:
        """Learn from the fit data of a window."""

    def recommend(self, histories: Histories, k: int = 10) -> RankedItems:
        """The k best items of each history."""


@runtime_checkable
class WindowModel(Protocol):
    """
    A model that learns something on top of others (a re-ranker, a blend) from queries that are already past.

    It is fitted by `fit_window` instead of `fit`.
    """

    def fit_window(
        self,
        window: Window,
        earlier: Sequence[Window],
        catalog: Catalog | None = None,
        *,
        progress: Progress = silent,
    ) -> Any:
        """
        Learn from a window's fit data and from the queries of the windows before it.

        Args:
            window: only its fit data; it has no queries.
            earlier: the windows before, with queries and ground truth, oldest first; all of it is part of
                `window.fit`.
            catalog: facts of items.
            progress: told of each step.
        """

    def recommend(self, histories: Histories, k: int = 10) -> RankedItems:
        """The k best items of each history."""


@dataclass(frozen=True, eq=False, slots=True)
class Rankings:
    """
    The lists of one model in one window.

    Attributes:
        lists: `all` (the whole history) and the cuts of `slices.CUTS` → (n, K) lists.
        fit_seconds: of the model of this window.
        score_seconds: of the lists of the whole histories.
        curve: what the fit reported after each of its steps; empty for a model without any.
    """

    lists: dict[str, Lists]
    fit_seconds: float
    score_seconds: float
    curve: Sequence[Mapping[str, float]] = ()


def rank_window(
    model: PlainModel | WindowModel,
    window: Window,
    earlier: Sequence[Window],
    catalog: Catalog | None,
    *,
    cuts: bool = True,
) -> Rankings:
    """
    Fit a model on a window and rank for its queries.

    Args:
        model: not fitted yet.
        window: what to fit on and ask.
        earlier: the windows before it, for a `WindowModel`.
        catalog: facts of items.
        cuts: also rank for the histories cut to their last items.

    Raises:
        ModelError: a list names an item twice.
    """
    recorder = _Recorder()
    started = perf_counter()
    if isinstance(model, WindowModel):
        model.fit_window(window.blind(), earlier, catalog, progress=recorder)
    else:
        model.fit(window.fit, catalog, progress=recorder)
    fitted = perf_counter()
    catalogue = window.catalogue()
    known = window.histories.where(catalogue.index(window.histories.item_ids) >= 0)
    lists = {"all": rank_histories(model, known, catalogue, seen=window.histories)}
    scored = perf_counter()
    if cuts:
        for name, n_items in CUTS.items():
            lists[name] = rank_histories(model, known.last(n_items), catalogue)
    return Rankings(lists, fitted - started, scored - fitted, recorder.steps)


def rank_histories(
    model: PlainModel | WindowModel,
    histories: Histories,
    catalogue: Vocabulary,
    *,
    seen: Histories | None = None,
    k: int = K,
) -> Lists:
    """
    The lists of a fitted model under the rules of the protocol.

    Args:
        model: a fitted model.
        histories: n histories, the model's input.
        catalogue: the items to rank, in the order that breaks ties.
        seen: n histories whose items are taken out; default: the input.
        k: list length.

    Raises:
        ModelError: a list names an item twice.
    """
    seen = histories if seen is None else seen
    plain = model if isinstance(model, Recommender) else None
    surplus = 0
    if plain is None or len(plain.items) > len(catalogue):
        # The model may list what was taken out of its input, so ask for as many more.
        surplus = int((seen.lengths - histories.lengths).max(initial=0))
    if (
        plain is None
        or type(plain).recommend is not Recommender.recommend
        or np.array_equal(plain.items.ids[: len(catalogue)], catalogue.ids)
    ):
        ids = model.recommend(histories, k + surplus).item_ids
    else:
        ids = _realigned(plain, histories, catalogue, k + surplus)
    ids = _without_seen(ids, seen, k)
    ordered = np.sort(ids, axis=1)
    if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()):
        raise ModelError(
            f"{type(model).__name__} lists an item twice.", fix="recommend() must return distinct items."
        )
    return ids


def oracle_lists(truth: GroundTruth, catalogue: Vocabulary, k: int = K) -> Lists:
    """The ground truth itself, as far as it is in the catalogue: the ceiling."""
    ids = np.full((len(truth), k), -1, dtype=np.int64)
    inside = truth.where(catalogue.index(truth.item_ids) >= 0)
    place = np.arange(len(inside.item_ids)) - inside.indptr[:-1][inside.rows]
    kept = place < k
    ids[inside.rows[kept], place[kept]] = inside.item_ids[kept]
    return ids


def random_lists(seen: Histories, catalogue: Vocabulary, generator: np.random.Generator, k: int = K) -> Lists:
    """Items drawn at random from those that the user does not know yet: the floor."""
    ids = np.full((len(seen), k), -1, dtype=np.int64)
    for row in range(len(seen)):
        known = seen.item_ids[seen.indptr[row] : seen.indptr[row + 1]]
        wanted = min(len(catalogue), k + len(known))
        drawn = catalogue.ids[generator.choice(len(catalogue), wanted, replace=False, shuffle=True)]
        fresh = drawn[~np.isin(drawn, known)][:k]
        ids[row, : len(fresh)] = fresh
    return ids


class RankingCache:
    """
    Lists on disk, by the content of the data, the configuration of the model and the code.

    Args:
        directory: where; made when missing. None keeps nothing.
        data: digest of interactions, catalogue and protocol.
    """

    def __init__(self, directory: Path | None, data: str) -> None:
        self._directory = directory
        self._data = data
        self._code = _source_digest() if directory is not None else ""

    def path(self, model: object, window: Window, *, cuts: bool) -> Path | None:
        """Where the lists of a model and window are kept; None if the model cannot be told from others."""
        identity = _identity(model)
        if self._directory is None or identity is None:
            return None
        text = json.dumps([self._data, self._code, window.name, cuts, identity], sort_keys=True, default=str)
        return self._directory / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"

    @staticmethod
    def load(path: Path) -> Rankings | None:
        """The lists of an earlier run; None when there are none that can be read."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            fit_seconds, score_seconds = arrays.pop("seconds").tolist()
            curve = json.loads(str(arrays.pop("curve")))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return None
        return Rankings(arrays, fit_seconds, score_seconds, curve)

    @staticmethod
    def save(path: Path, rankings: Rankings) -> None:
        """Keep lists; a reader never sees a part of them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = np.array([rankings.fit_seconds, rankings.score_seconds])
        curve = np.array(json.dumps(list(rankings.curve)))
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez(file, seconds=seconds, curve=curve, **rankings.lists)  # type: ignore[arg-type]
        Path(file.name).replace(path)


class _Recorder(Progress):
    """Keeps what each step of a fit reported."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        if metrics:
            self.steps.append({name: float(value) for name, value in metrics.items()})


def _realigned(model: Recommender, histories: Histories, catalogue: Vocabulary, k: int) -> Lists:
    """Rank by scores when the model orders its items otherwise than the catalogue does."""
    others = np.sort(model.items.ids[catalogue.index(model.items.ids) < 0])
    items = Vocabulary(np.concatenate([catalogue.ids, others]))
    column = model.items.index(items.ids)
    known = column >= 0
    blocks = []
    step = max(SCORE_CELLS // max(len(items), 1), 16)
    for start in range(0, max(len(histories), 1), step):
        block = histories.take(slice(start, start + step))
        scores = np.full((len(block), len(items)), -np.inf, dtype=np.float32)
        scores[:, known] = model.score(block)[:, column[known]]
        index = items.index(block.item_ids)
        scores[block.rows[index >= 0], index[index >= 0]] = -np.inf
        blocks.append(RankedItems.from_indices(*top_k(scores, k), items.ids).item_ids)
    return np.concatenate(blocks)


def _without_seen(ids: Lists, seen: Histories, k: int) -> Lists:
    """The first k of each list after what the user knows is taken out; a click alone is not knowing."""
    known = seen.events != Event.CLICK
    out = listed_in(ids, seen.rows[known], seen.item_ids[known]) | (ids < 0)
    order = np.argsort(out, axis=1, kind="stable")[:, :k]
    kept = np.where(np.take_along_axis(out, order, axis=1), -1, np.take_along_axis(ids, order, axis=1))
    return np.pad(kept, ((0, 0), (0, k - kept.shape[1])), constant_values=-1)


def _identity(model: object) -> list[Any] | None:
    """What tells a model from others: its class, the code of its module and its configuration."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_dict"):
        return None
    kind = type(model)
    source = inspect.getsourcefile(kind)
    code = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    return [kind.__module__, kind.__qualname__, code, config.to_dict()]


def _source_digest() -> str:
    sha = hashlib.sha256(np.__version__.encode())
    root = Path(__file__).parents[1]
    for package in SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()
