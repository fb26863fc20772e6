import pytest

from marquee.store.postgres import Database
from marquee.store.repositories import deployments, quarantine

pytestmark = pytest.mark.integration


def deploy(connection, slot: deployments.Slot, digest: str, **more) -> deployments.Deployment:
    return deployments.append(
        connection, slot, bundle=f"bundles/{digest}", digest=digest, model="mlp", deployed_by="me",
        reason="test", **more,
    )  # fmt: skip


def test_newest_deployment_of_a_slot_serves(database: Database):
    with database.begin() as connection:
        assert deployments.current(connection, "champion") is None
        assert deployments.previous(connection, "champion") is None
        first = deploy(connection, "champion", "a")
        second = deploy(connection, "champion", "b", gate_report={"ndcg": 0.1}, version="2")
        deploy(connection, "predictor", "a")
        assert deployments.current(connection, "champion") == second
        assert deployments.previous(connection, "champion") == first
        assert deployments.history(connection, "champion") == [second, first]
        assert {slot: one.digest for slot, one in deployments.current_all(connection).items()} == {
            "champion": "b",
            "predictor": "a",
        }


def test_previous_skips_deployments_of_the_current_bundle(database: Database):
    with database.begin() as connection:
        first = deploy(connection, "champion", "a")
        deploy(connection, "champion", "b")
        deploy(connection, "champion", "b")
        assert deployments.previous(connection, "champion") == first


def test_same_rejected_row_is_kept_once(database: Database):
    rejected = [("no title", {"id": 1}), ("no title", {"id": 2, "text": "a\0b"}), ("no title", {"id": 1})]
    with database.begin() as connection:
        assert quarantine.append(connection, "tmdb", rejected) == 2
        assert quarantine.append(connection, "tmdb", rejected) == 0
        assert quarantine.append(connection, "sample", rejected[:1]) == 1
        assert quarantine.append(connection, "sample", []) == 0
        assert quarantine.counts(connection) == {("tmdb", "no title"): 2, ("sample", "no title"): 1}
        assert [row.content["id"] for row in quarantine.recent(connection, source="tmdb")] == [2, 1]
