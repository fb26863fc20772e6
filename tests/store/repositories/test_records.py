import pytest

from marquee.errors import NoChampionError, NotFoundError, RegistryError
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


def roll_back(connection, slot: deployments.Slot = "champion") -> deployments.Deployment:
    return deployments.roll_back(connection, slot, deployed_by="me", reason="it is bad")


def test_rollback_brings_back_the_one_before_and_then_the_one_before_that(database: Database):
    with database.begin() as connection:
        for digest in "abbc":
            deploy(connection, "champion", digest, version=digest.upper())
        for expected in "ba":
            back = roll_back(connection)
            assert deployments.current(connection, "champion") == back
            assert (back.digest, back.version, back.reason) == (expected, expected.upper(), "it is bad")
            assert back.verdict == "rolled_back"
        with pytest.raises(RegistryError, match="Nothing has served"):
            roll_back(connection)


def test_what_was_rolled_back_is_never_the_goal_of_a_rollback(database: Database):
    with database.begin() as connection:
        deploy(connection, "champion", "a")
        deploy(connection, "champion", "b")
        for bad in "cde":
            deploy(connection, "champion", bad)
            assert roll_back(connection).digest == "b"
        assert roll_back(connection).digest == "a"


def test_rollback_of_an_empty_slot_or_of_one_that_was_emptied_is_refused(database: Database):
    with database.begin() as connection:
        with pytest.raises(NoChampionError):
            roll_back(connection)
        deploy(connection, "shadow", "a")
        deployments.clear(connection, "shadow", deployed_by="me", reason="test")
        with pytest.raises(NoChampionError):
            roll_back(connection, "shadow")
        deploy(connection, "predictor", "a")
        with pytest.raises(RegistryError):
            roll_back(connection, "predictor")


def test_version_is_found_in_whatever_slot_with_or_without_its_model(database: Database):
    with database.begin() as connection:
        deploy(connection, "challenger", "a", version="1-a")
        newest = deploy(connection, "champion", "a", version="1-a")
        assert deployments.of_version(connection, "1-a") == newest
        assert deployments.of_version(connection, "mlp/1-a") == newest
        for unknown in ("1-b", "", "mlp/"):
            with pytest.raises(NotFoundError):
                deployments.of_version(connection, unknown)


def test_approval_is_of_the_newest_verdict_on_a_version(database: Database):
    def waits(digest: str) -> None:
        report = {"verdict": "waiting", "champion": {"digest": None}}
        deploy(connection, "challenger", digest, version=digest, gate_report=report)

    with database.begin() as connection:
        waits("a")
        waits("b")
        deploy(connection, "challenger", "b", version="b", gate_report={"verdict": "refused"})
        with pytest.raises(NotFoundError):
            deployments.approve(connection, deployed_by="chief", reason="fine", version="b")
        approved = deployments.approve(connection, deployed_by="chief", reason="fine")
        assert (approved.digest, approved.slot, approved.verdict) == ("a", "champion", "passed")
        with pytest.raises(NotFoundError):  # it does not wait any more
            deployments.approve(connection, deployed_by="chief", reason="fine")
        waits("c")  # compared with no champion, and there is one now
        with pytest.raises(RegistryError, match="has changed"):
            deployments.approve(connection, deployed_by="chief", reason="fine")


def test_same_rejected_row_is_kept_once(database: Database):
    rejected = [("no title", {"id": 1}), ("no title", {"id": 2, "text": "a\0b"}), ("no title", {"id": 1})]
    with database.begin() as connection:
        assert quarantine.append(connection, "tmdb", rejected) == 2
        assert quarantine.append(connection, "tmdb", rejected) == 0
        assert quarantine.append(connection, "sample", rejected[:1]) == 1
        assert quarantine.append(connection, "sample", []) == 0
        assert [(found.source, found.count) for found in quarantine.reasons(connection)] == [
            ("tmdb", 2),
            ("sample", 1),
        ]
        assert [row.content["id"] for row in quarantine.recent(connection, source="tmdb")] == [2, 1]
