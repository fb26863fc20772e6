"""Answers computed again are those that were given, unless something is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import insert, text, update

from marquee.config import Settings
from marquee.data import Histories, RankedItems
from marquee.data.dataset import Interactions
from marquee.models.item_knn import ItemKnn
from marquee.monitoring.skew import Skew, replay
from marquee.recommend import RecommendationPipeline
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, items
from marquee.store.repositories import interactions as rows
from marquee.store.repositories.deployments import Deployment
from marquee.store.tables import impressions, interactions
from marquee.store.tables import items as item_table
from marquee.testing import planted_tastes

NOW = datetime(2030, 1, 2, tzinfo=UTC)
SERVED = NOW - timedelta(hours=2)
USERS = range(1, 41)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def champion(database: Database, objects: ObjectStore) -> Deployment:
    """A champion with a catalogue and the histories that it was trained on."""
    tastes = planted_tastes()
    model = ItemKnn().fit(tastes.interactions, tastes.catalog)
    ref = bundles.publish(
        objects,
        model.state(),
        model=model.name,
        cards=tastes.catalog.table,
        metrics={},
        snapshot="none",
        code_version="test",
    )
    early = SERVED - timedelta(days=30)
    with database.begin() as connection:
        items.upsert_items(connection, tastes.catalog.table, source="test")
        connection.execute(update(item_table).values(updated_at=early))
        table = tastes.interactions.to_arrow()
        keys = [str(number) for number in range(len(table))]
        rows.load_interactions(connection, table.append_column("event_key", [keys]), source="test")
        connection.execute(update(interactions).values(ingested_at=early))
        return deployments.append(
            connection,
            "champion",
            bundle=ref.key,
            digest=ref.digest,
            model=ref.model,
            deployed_by="test",
            reason="test",
        )


@pytest.fixture
def lists(database: Database, objects: ObjectStore, champion: Deployment, tmp_path: Path) -> RankedItems:
    """What the champion shows these users."""
    model = bundles.load(objects, champion.bundle, tmp_path / "other").recommender()
    pipeline = RecommendationPipeline(model, items.load_catalog(database))
    known: Interactions = rows.load(database)
    moments = int(SERVED.timestamp() * 1_000_000)
    return pipeline.recommend(Histories.gather(known, list(USERS), moments), 10)


def show(database: Database, champion: Deployment, item_ids: np.ndarray, scores: np.ndarray) -> None:
    with database.begin() as connection:
        connection.execute(
            insert(impressions),
            [
                {
                    "request_id": uuid4(),
                    "served_at": SERVED + timedelta(seconds=number),
                    "user_id": user,
                    "item_ids": item_ids[number][item_ids[number] >= 0].tolist(),
                    "scores": scores[number][item_ids[number] >= 0].tolist(),
                    "bundle": champion.bundle,
                    "surface": "recommendations",
                    "tier": "personal",
                }
                for number, user in enumerate(USERS)
            ],
        )


@pytest.fixture
def again(settings: Settings, database: Database, objects: ObjectStore, champion: Deployment):
    def replayed() -> Skew | None:
        return replay(settings, database, objects, champion, NOW, seconds=60)

    return replayed


def test_answers_of_the_champion_are_those_computed_again(database, champion, lists, again) -> None:
    show(database, champion, lists.item_ids, lists.scores)
    assert again() == Skew(40, 0.0, ((0.0, 200), (0.0, 200)))


def test_events_of_after_an_answer_are_not_held_against_it(database, champion, lists, again) -> None:
    show(database, champion, lists.item_ids, lists.scores)
    with database.begin() as connection:
        connection.execute(
            insert(interactions),
            [
                {
                    "user_id": user,
                    "item_id": int(lists.item_ids[number, 0]),
                    "event": "watch",
                    "occurred_at": SERVED + timedelta(hours=1),
                    "ingested_at": SERVED + timedelta(hours=1),
                    "source": "live",
                    "event_key": str(user),
                }
                for number, user in enumerate(USERS)
            ],
        )
    found = again()
    assert found is not None
    assert found.share == 0.0


def test_filters_and_exclusions_are_no_skew(database, champion, lists, again) -> None:
    """Only every third film was let through, deep down the list, with the model's scores."""
    model_lists = lists.item_ids[:, 1::3], lists.scores[:, 1::3]
    show(database, champion, *model_lists)
    found = again()
    assert found is not None
    assert found.share == 0.0


def test_films_of_another_model_are_skew(database, champion, lists, again) -> None:
    half = len(USERS) // 2
    item_ids, scores = lists.item_ids.copy(), lists.scores.copy()
    item_ids[half:] = np.roll(lists.item_ids, 7, axis=0)[
        half:
    ]  # what others were shown, as if it were theirs
    scores[half:] += 5.0
    show(database, champion, item_ids, scores)
    found = again()
    assert found is not None
    (newer, _), (older, _) = found.halves
    assert newer > 0.3
    assert older == 0.0


def test_nothing_is_said_of_answers_of_before_the_catalogue_changed(database, champion, lists, again) -> None:
    show(database, champion, lists.item_ids, lists.scores)
    with database.begin() as connection:
        connection.execute(text("UPDATE items SET updated_at = now() + interval '20 years'"))
    assert again() is None
