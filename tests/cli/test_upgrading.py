import json
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from marquee.cli import app
from marquee.config import Settings
from marquee.store.postgres import Database

pytestmark = pytest.mark.integration


@pytest.fixture
def marquee(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the database of the test."""
    monkeypatch.setenv("MARQUEE_HOME", str(settings.home))
    monkeypatch.setenv("MARQUEE_DATABASE__URL", settings.database.url.get_secret_value())
    return lambda *arguments: CliRunner().invoke(app, ["upgrade", *arguments])


def make_due(database: Database) -> None:
    """As a release that had one revision less would leave it."""
    with database.begin() as connection:
        connection.execute(text("UPDATE schema_revision SET version_num = '0004'"))
        connection.execute(text("DROP INDEX runs_idempotency_key_idx"))
        connection.execute(text("ALTER TABLE runs DROP COLUMN idempotency_key"))


def test_check_says_that_nothing_is_due(marquee):
    result = marquee("--check")
    assert result.exit_code == 0
    assert "Nothing is due." in result.output


def test_check_exits_with_1_until_what_is_due_is_done(marquee, database: Database):
    make_due(database)
    result = marquee("--check")
    assert result.exit_code == 1
    assert "revision 0004" in result.output
    assert marquee().exit_code == 0
    assert marquee("--check").exit_code == 0


def test_json_names_parts_and_kept_files(marquee, database: Database, settings: Settings):
    make_due(database)
    kept: Path = settings.paths.postgres / "data-15.old"
    kept.mkdir(parents=True)
    found = json.loads(marquee("--check", "--json").output)
    assert found["due"]
    assert found["kept"] == [str(kept)]
    made = json.loads(marquee("--clean", "--json").output)
    assert [part["name"] for part in made["parts"] if part["done"]] == ["schema"]
    assert made["removed"] == [str(kept)]
    assert made["kept"] == []
    assert not kept.exists()
