"""What a worker measures of backups."""

from prometheus_client import REGISTRY

from marquee.config import Settings
from marquee.pipelines.run import run_here
from marquee.pipelines.schedule import look
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
