"""The archive is away for an hour, in little: pipelines go on, and what they made arrives later, in order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from waiting import eventually

from marquee.config import ObjectSettings, Settings
from marquee.pipelines import courier
from marquee.pipelines.courier import Courier
from marquee.pipelines.run import run_here
from marquee.store.backups import Vault
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.remote import RemoteStore
from marquee.store.repositories import outbox

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")]


class Listed(RemoteStore):
    """An archive that remembers the order in which objects came."""

    arrived: list[str]

    def upload(self, key: str, *args: Any, **options: Any) -> bool:
        new = super().upload(key, *args, **options)
        self.arrived.append(key)
        return new


async def test_pipelines_go_on_while_the_archive_is_away_and_all_they_made_arrives_in_order(
    make_swift: Callable[..., Any], settings: Settings, database: Database, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(courier, "MAX_PAUSE_SECONDS", 0.2)
    swift = make_swift()
    archive = ObjectSettings(**{**swift.settings(), "retries": 0})
    tracked = settings.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/m.db"})
    settings = settings.model_copy(update={"objects": archive, "mlflow": tracked})
    remote = Listed(archive)
    remote.arrived = []
    objects = ObjectStore(settings.paths.objects, remote)

    def waiting() -> list[outbox.Parcel]:
        with database.begin() as connection:
            return outbox.next_parcels(connection, 1000)

    def run(pipeline: str, **parameters: Any) -> None:
        run_here(settings, database, objects, pipeline, parameters)

    with structlog.testing.capture_logs() as logs:
        delivering = asyncio.create_task(Courier(database, objects).deliver_forever())
        try:
            await asyncio.to_thread(run, "prepare", source="sample", users=30)
            await eventually(lambda: not waiting())
            swift.kill()
            for pipeline, parameters in (("train", {"model": "popularity"}), ("infer", {}), ("prepare", {})):
                await asyncio.to_thread(run, pipeline, **parameters)
            with pytest.raises(Exception, match="cannot be reached"):
                await asyncio.to_thread(run, "backup")
            await eventually(lambda: waiting()[0].attempts >= 3)
            queued = [parcel.key for parcel in waiting()]
            with database.begin() as connection:
                ended = connection.execute(
                    text("SELECT pipeline, status FROM runs ORDER BY created_at")
                ).all()
            await asyncio.to_thread(swift.start)
            await eventually(lambda: not waiting())
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
    assert [tuple(row) for row in ended] == [
        *((name, "succeeded") for name in ("prepare", "train", "infer", "prepare")),
        ("backup", "failed"),
    ]
    assert {key.partition("/")[0] for key in queued} >= {"bundles", "predictions"}
    assert remote.arrived[-len(queued) :] == queued
    assert {item.key for item in remote.list()} >= {ref.key for ref in objects.list()}
    assert Vault(objects).manifests() == []
    assert len([line for line in logs if line["event"] == "courier.not_delivered"]) == 1
    await asyncio.to_thread(run, "backup")
    assert len(Vault(objects).manifests()) == 1
