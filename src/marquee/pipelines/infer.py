"""
Batch inference: everyone's top-k with the champion, visible all at once.

The same `RecommendationPipeline` answers `marquee recommend`, so that a batch and a single answer agree.
"""

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marquee.config import Settings
from marquee.data import Catalog, Histories, RankedItems
from marquee.data.schema import Ids
from marquee.errors import NoChampionError
from marquee.models import Recommender
from marquee.pipelines.run import RunContext
from marquee.recommend import RecommendationPipeline
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, outbox, recommendations, runs
from marquee.store.repositories import interactions as interaction_rows
from marquee.store.repositories import items as item_rows

__all__ = ["infer", "recommend_all", "recommend_user"]

BLOCK_USERS = 2048
DEFAULT_K = 20


def infer(context: RunContext) -> dict[str, Any]:
    """
    Replace the precomputed lists of all users.

    Parameters of the run: `k` — list length, default 20.

    Raises:
        NoChampionError: no model has been trained yet and there are no interactions to count.
    """
    k = int(context.parameters.get("k", DEFAULT_K))
    with context.database.begin() as connection:
        newest = recommendations.current_batch(connection)
        begun = runs.get(connection, context.run_id).created_at
        moment = recommendations.now(connection)
    if newest is not None and newest.generated_at >= begun:
        # Written by this run: its process died between that commit and the record of its end.
        return {"k": k, "bundle": newest.bundle}
    bundle, user_ids, ranked = recommend_all(
        context.settings, context.database, context.objects, k, told=context.progress
    )
    archived = _keep(context.objects, user_ids, ranked, bundle, moment)
    with context.database.begin() as connection:
        outbox.add(connection, archived)
        recommendations.replace_all(connection, user_ids, ranked, bundle=bundle, generated_at=moment)
    return {"users": len(user_ids), "k": k, "bundle": bundle}


def recommend_all(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    k: int,
    *,
    told: Callable[[str, int, int], None] | None = None,
) -> tuple[str, Ids, RankedItems]:
    """
    The champion's lists for everybody now.

    Returns:
        The key of its bundle, the users, and their lists.
    """
    bundle, model = load_champion(settings, database, objects)
    histories = interaction_rows.load(database).histories()
    pipeline, _ = _pipeline(model, database)
    blocks = [RankedItems(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    for start in range(0, len(histories), BLOCK_USERS):
        blocks.append(pipeline.recommend(histories.take(slice(start, start + BLOCK_USERS)), k))
        if told is not None:
            told("recommend", min(start + BLOCK_USERS, len(histories)), len(histories))
    ranked = RankedItems(
        np.concatenate([block.item_ids for block in blocks]),
        np.concatenate([block.scores for block in blocks]),
    )
    return bundle, histories.user_ids, ranked


def load_champion(settings: Settings, database: Database, objects: ObjectStore) -> tuple[str, Recommender]:
    """
    The champion's bundle key and model; without a champion, popularity counted on the spot.

    Raises:
        NoChampionError: nothing to load and nothing to count.
    """
    with database.begin() as connection:
        deployed = deployments.current(connection, "champion")
    if deployed is not None:
        return deployed.bundle, bundles.load(objects, deployed.bundle, settings.paths.bundles).recommender()
    interactions = interaction_rows.load(database)
    if not len(interactions):
        raise NoChampionError("There is no model and nothing to count.", fix="Run: marquee pipeline run")
    from marquee.models.popularity import Popularity

    return "popularity", Popularity().fit(interactions)


def recommend_user(
    settings: Settings, database: Database, objects: ObjectStore, user_id: int, k: int
) -> list[dict[str, Any]]:
    """
    The champion's list for one user now; an unknown user gets popular items.

    Returns:
        Dictionaries of `rank`, `item_id`, `title`, `score`.
    """
    _, model = load_champion(settings, database, objects)
    with database.begin() as connection:
        events = interaction_rows.user_history(connection, user_id)
    moment = int(events.timestamps.max(initial=0)) + 1
    pipeline, catalog = _pipeline(model, database)
    ranked = pipeline.recommend(Histories.gather(events, [user_id], moment), k)
    titles = _titles(catalog)
    return [
        {"rank": rank, "item_id": item_id, "title": titles.get(item_id), "score": score}
        for rank, (item_id, score) in enumerate(next(ranked.rows()), start=1)
    ]


def _keep(
    objects: ObjectStore, user_ids: Ids, ranked: RankedItems, bundle: str, moment: datetime
) -> list[str]:
    """The batch as an object for the archive; without an archive the table is the only place for it."""
    if objects.remote is None:
        return []
    present = ranked.item_ids >= 0
    ends = np.cumsum(np.concatenate([[0], present.sum(axis=1)]))
    columns = {
        "user_id": pa.array(user_ids),
        "item_ids": pa.LargeListArray.from_arrays(ends, pa.array(ranked.item_ids[present])),
        "scores": pa.LargeListArray.from_arrays(ends, pa.array(ranked.scores[present])),
    }
    table = pa.table(columns, metadata={"bundle": bundle, "generated_at": moment.isoformat()})
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(table, file.name, compression="zstd")
        return [objects.put(f"predictions/{moment:%Y/%m/%d}", Path(file.name), ".parquet").key]


def _pipeline(model: Recommender, database: Database) -> tuple[RecommendationPipeline, Catalog]:
    """The model with what the database knows of its items."""
    catalog = item_rows.load_catalog(database)
    with database.begin() as connection:
        blocked, editorial = item_rows.not_shown(connection), item_rows.editorial(connection)
    return RecommendationPipeline(model, catalog, blocked=blocked, editorial=editorial), catalog


def _titles(catalog: Catalog) -> dict[int, str]:
    return dict(zip(catalog.item_ids.tolist(), catalog.table["title"].to_pylist(), strict=True))
