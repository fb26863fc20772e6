"""The newest backup is restored for the rehearsal, and nothing else is."""

import shutil

import pytest
from sqlalchemy import text

from marquee.config import AudienceSettings, Settings
from marquee.errors import MarqueeError, NotFoundError
from marquee.pipelines.run import run_here
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"audience": AudienceSettings(users=20, days=20)})


def test_newest_backup_is_restored_and_serves_everyone(small: Settings, database: Database) -> None:
    objects = ObjectStore.of(small)
    run_here(small, database, objects, "prepare", {"source": "sample"})
    run_here(small, database, objects, "backup")
    newest = run_here(small, database, objects, "backup")
    done = run_here(small, database, objects, "drill")
    assert done["backup"] == newest["backup"]
    assert done["rows"] == newest["rows"] > 200
    assert done["users"] == 20
    assert done["champion"] == "popularity"
    assert not small.paths.postgres.exists()


def test_whoever_was_erased_since_the_backup_is_taken_out(small: Settings, database: Database) -> None:
    """Neither the backup nor a note beside it knows of them: the living database does."""
    objects = ObjectStore.of(small)
    run_here(small, database, objects, "prepare", {"source": "sample"})
    run_here(small, database, objects, "backup")
    with database.begin() as connection:
        user_id = connection.scalar(text("SELECT min(user_id) FROM interactions"))
        erasures.mark(connection, user_id, small.paths.secrets)
        erasures.delete_rows(connection, user_id)
    done = run_here(small, database, objects, "drill")
    assert (done["erased"], done["users"]) == (1, 19)


def test_rehearsal_without_a_backup_or_with_a_damaged_one_fails(small: Settings, database: Database) -> None:
    objects = ObjectStore.of(small)
    with pytest.raises(NotFoundError, match="There is no backup"):
        run_here(small, database, objects, "drill")
    run_here(small, database, objects, "prepare", {"source": "sample"})
    run_here(small, database, objects, "backup")
    shutil.rmtree(small.paths.objects / "tables")
    with pytest.raises(MarqueeError, match="tables/"):
        run_here(small, database, objects, "drill")
