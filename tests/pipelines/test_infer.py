"""Batch inference where there is little to infer from."""

import pytest

from marquee.pipelines.infer import recommend_all
from marquee.pipelines.run import run_here
from marquee.store.objects import ObjectStore
from marquee.store.repositories import recommendations
from marquee.store.repositories.interactions import load_interactions
from marquee.store.repositories.items import upsert_items
from marquee.testing import planted_tastes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
]


def test_champion_without_any_history_has_an_empty_batch(settings, database, tmp_path):
    archive = settings.objects.model_copy(update={"url": f"file://{tmp_path}/archive"})
    settings = settings.model_copy(update={"objects": archive})
    objects = ObjectStore.of(settings)
    tastes = planted_tastes()
    with database.begin() as connection:
        upsert_items(connection, tastes.catalog.table, source="test")
        keys = [[str(row) for row in range(len(tastes.interactions))]]
        rows = tastes.interactions.to_arrow().append_column("event_key", keys)
        load_interactions(connection, rows, source="test", kind="imported")
    run_here(settings, database, objects, "train", {"model": "popularity"})
    run_here(settings, database, objects, "promote", {"force": True, "reason": "a test"})
    with database.begin() as connection:
        connection.exec_driver_sql("TRUNCATE interactions")  # as after a restore of the catalogue alone
    _, user_ids, ranked = recommend_all(settings, database, objects, 7)
    assert (len(user_ids), len(ranked), ranked.k) == (0, 0, 7)
    counts = run_here(settings, database, objects, "infer", {"k": 7})
    assert counts["users"] == 0
    with database.begin() as connection:
        assert recommendations.current_batch(connection).bundle == counts["bundle"]
