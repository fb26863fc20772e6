import numpy as np
import pytest
from sqlalchemy import Connection, insert, text

from marquee.data import RankedItems
from marquee.store import tables
from marquee.store.postgres import Database
from marquee.store.repositories import predictions, recommendations

pytestmark = pytest.mark.integration

NONE = np.nan


def lists(*rows: list[int]) -> RankedItems:
    items = np.array(rows, np.int64)
    return RankedItems(
        items, np.where(items >= 0, 1.0 / (1 + np.arange(items.shape[1])), NONE).astype(np.float32)
    )


def served(connection: Connection) -> dict[int, tuple[str, list[int], list[float]]]:
    """User → the bundle, the items and the scores of their current list."""
    query = text(
        "SELECT user_id, bundle, item_ids, scores FROM recommendation_batches "
        "JOIN recommendations USING (generation) WHERE is_current"
    )
    return {row.user_id: (row.bundle, row.item_ids, row.scores) for row in connection.execute(query)}


def test_batch_replaces_the_former_one(database: Database):
    with database.begin() as connection:
        assert recommendations.current_batch(connection) is None
        recommendations.replace_all(connection, np.array([1, 2]), lists([7, 8], [9, -1]), bundle="a")
        assert served(connection) == {1: ("a", [7, 8], [1.0, 0.5]), 2: ("a", [9], [1.0])}
        batch = recommendations.replace_all(connection, np.array([1]), lists([5]), bundle="b")
        assert served(connection) == {1: ("b", [5], [1.0])}
        assert recommendations.current_batch(connection) == batch


def test_failed_batch_leaves_the_former_one(database: Database):
    with database.begin() as connection:
        recommendations.replace_all(connection, np.array([1]), lists([7]), bundle="a")
    with pytest.raises(RuntimeError), database.begin() as connection:
        recommendations.replace_all(connection, np.array([1]), lists([8]), bundle="b")
        raise RuntimeError
    with database.begin() as connection:
        assert served(connection) == {1: ("a", [7], [1.0])}


def test_newest_items_are_everyones_best_without_duplicates(database: Database):
    with database.begin() as connection:
        assert recommendations.newest_items(connection, 3) == []
        ranked = lists([7, 8, 9], [7, 5, -1], [6, 7, 4])
        recommendations.replace_all(connection, np.array([1, 2, 3]), ranked, bundle="a")
        assert recommendations.newest_items(connection, 4) == [7, 6, 8, 5]
        assert recommendations.newest_items(connection, 50) == [7, 6, 8, 5, 9, 4]


def test_empty_batch_is_a_batch(database: Database):
    with database.begin() as connection:
        empty = RankedItems(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))
        recommendations.replace_all(connection, np.array([], np.int64), empty, bundle="a")
        assert recommendations.current_batch(connection).bundle == "a"


def test_latest_predicted_items_come_newest_first(database: Database):
    def predict(connection, *item_ids: int) -> None:
        values = {"user_id": 1, "item_id": 2, "item_ids": item_ids, "scores": [0.5] * len(item_ids)}
        connection.execute(insert(tables.predictions).values(**values, bundle="a"))

    with database.begin() as connection:
        assert predictions.latest_items(connection, 3) == []
        predict(connection, 1, 2, 3)
        predict(connection, 4, 2)
        assert predictions.latest_items(connection, 3) == [4, 2, 1]
        assert predictions.latest_items(connection, 10) == [4, 2, 1, 3]
