"""What a worker measures of backups, and which ones it lets go."""

from prometheus_client import REGISTRY

from marquee.config import BackupSettings, Settings
from marquee.pipelines.run import run_here
from marquee.pipelines.schedule import look
from marquee.store.backups import Vault, verify
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database


def test_age_and_size_are_those_of_the_newest_backup_that_was_verified(
    settings: Settings, database: Database
) -> None:
    objects = ObjectStore.of(settings)
    made = run_here(settings, database, objects, "backup")
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO runs (run_id, pipeline, status) VALUES (gen_random_uuid(), 'backup', 'failed')"
        )
        connection.exec_driver_sql(
            "UPDATE runs SET counts = jsonb_set(counts, '{snapshot_at}', "
            "to_jsonb((now() - interval '3 hours')::text)) WHERE status = 'succeeded'"
        )
        look(connection, settings)
    age = REGISTRY.get_sample_value("marquee_backup_newest_verified_age_seconds")
    assert age is not None
    assert age >= 3 * 3600
    assert REGISTRY.get_sample_value("marquee_backup_bytes") == made["bytes"]


def test_backup_that_is_run_lets_old_ones_go_unless_told_not_to(
    settings: Settings, database: Database
) -> None:
    few = BackupSettings(keep_daily=1, keep_weekly=0)
    settings = settings.model_copy(update={"backup": few})
    objects = ObjectStore.of(settings)
    first = run_here(settings, database, objects, "backup")
    kept = run_here(settings, database, objects, "backup", {"prune": False})
    assert Vault(objects).manifests() == [f"backups/{made['backup']}.json" for made in (first, kept)]
    newest = run_here(settings, database, objects, "backup")
    assert (newest["pruned"], "pruned" in kept) == (2, False)
    assert Vault(objects).manifests() == [f"backups/{newest['backup']}.json"]
    assert verify(objects, Vault(objects).find()).whole
