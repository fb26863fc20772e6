"""Features taken by a run, kept as objects, read by command, gone with who is forgotten."""

import importlib.util
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from typer.testing import CliRunner

from marquee.cli import app
from marquee.config import Settings
from marquee.errors import MarqueeError, NotFoundError
from marquee.features.port import VIEWS, join_as_of
from marquee.pipelines import state
from marquee.pipelines.features import historical_join, open_store
from marquee.pipelines.run import run_here
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories.interactions import load_interactions
from marquee.store.repositories.items import upsert_items
from marquee.testing import planted_tastes

pytestmark = pytest.mark.integration

TASTES = planted_tastes()
USER = int(TASTES.interactions.user_ids[0])


@pytest.fixture
def watched(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home in which planted tastes were watched."""
    with database.begin() as connection:
        upsert_items(connection, TASTES.catalog.table, source="test")
    with database.begin() as connection:
        keys = [[str(row) for row in range(len(TASTES.interactions))]]
        rows = TASTES.interactions.to_arrow().append_column("event_key", keys)
        load_interactions(connection, rows, source="test", kind="imported")
    monkeypatch.setenv("MARQUEE_HOME", str(settings.home))
    monkeypatch.setenv("MARQUEE_DATABASE__URL", database.url)
    return settings


def command(*arguments: str) -> Any:
    ended = CliRunner().invoke(app, ["features", *arguments, "--json"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def ages() -> list[float | None]:
    name = "marquee_features_newest_timestamp_seconds"
    return [REGISTRY.get_sample_value(name, {"view": view}) for view in VIEWS]


def test_features_end_behind_the_last_event_and_are_kept_with_their_manifest(
    watched: Settings, database: Database
) -> None:
    objects = ObjectStore.of(watched)
    made = run_here(watched, database, objects, "features")
    last = int(TASTES.interactions.timestamps.max())
    assert datetime.fromisoformat(made["features_as_of"]) == datetime.fromtimestamp(0, UTC) + timedelta(
        microseconds=last + 1
    )
    manifest = json.loads(objects.get(made["features"]))
    assert set(manifest) == {*VIEWS, "as_of", "snapshot"}
    again = run_here(watched, database, objects, "features", {"snapshot": manifest["snapshot"]})
    assert again["features"] == made["features"]
    user = open_store(watched, database, objects).user(USER)
    assert user is not None
    assert user["n_events"] == (TASTES.interactions.user_ids == USER).sum()


def test_command_prints_a_user_and_an_item(watched: Settings) -> None:
    assert command("materialize")["features_store"] == "builtin"
    user = command("get", "--user", str(USER))
    assert user["user_id"] == USER
    assert len(user["genre_name"]) == len(user["genre_share"]) > 0
    item_id = int(TASTES.catalog.item_ids[0])
    events = TASTES.interactions.positives().item_ids == item_id
    item = command("get", "--item", str(item_id))
    assert (item["item_id"], item["n_events"]) == (item_id, events.sum())


@pytest.mark.parametrize("who", ["--user", "--item"])
def test_command_says_who_has_no_features(watched: Settings, who: str) -> None:
    with pytest.raises(NotFoundError, match="No features have been taken yet"):
        command("get", who, "999999")
    command("materialize")
    with pytest.raises(NotFoundError, match=f"no features of {who[2:]} 999999"):
        command("get", who, "999999")


def test_features_of_both_or_neither_are_a_mistake(watched: Settings) -> None:
    for arguments in ([], ["--user", "1", "--item", "1"]):
        with pytest.raises(ValueError, match="either --user or --item"):
            command("get", *arguments)


def test_command_that_needs_feast_says_what_to_install(watched: Settings) -> None:
    if importlib.util.find_spec("feast") is not None:
        pytest.skip("Feast is installed here")
    with pytest.raises(MarqueeError, match=r"pip install 'marquee-recsys\[feast\]'"):
        command("apply")


def test_built_in_features_have_no_age_that_alerts(watched: Settings, database: Database) -> None:
    command("materialize")
    before = ages()
    with database.begin() as connection:
        state.tell(connection)
    assert ages() == before


def test_training_joins_by_the_built_in_join_unless_told_otherwise(settings: Settings) -> None:
    assert historical_join(settings) is join_as_of


def test_features_of_forgotten_users_go_when_they_are_old(watched: Settings, database: Database) -> None:
    objects = ObjectStore.of(watched)
    made = run_here(watched, database, objects, "features")
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET erased_at = now() WHERE user_id = :user"), {"user": USER})
    run_here(watched, database, objects, "forget")
    manifest = json.loads(objects.get(made["features"]))
    old = datetime.now(UTC) - timedelta(days=watched.backup.raw_days + 1)
    for view in ("users", "user_genres"):
        path = objects.root / manifest[view]
        assert path.exists()
        os.utime(path, (old.timestamp(), old.timestamp()))
    ended = run_here(watched, database, objects, "forget")
    assert ended["expired"] == 2
    for view in ("users", "user_genres"):
        assert not (objects.root / manifest[view]).exists()
    assert not (objects.root / made["features"]).exists()
    assert (objects.root / manifest["items"]).exists()
