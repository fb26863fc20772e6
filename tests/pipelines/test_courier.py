import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import structlog
from sqlalchemy import text
from typer.testing import CliRunner
from waiting import eventually

from marquee.cli import app
from marquee.config import ObjectSettings, Settings
from marquee.errors import StoreError, StoreUnavailableError
from marquee.pipelines import courier
from marquee.pipelines.courier import Courier, enqueue_lacking
from marquee.pipelines.run import run_here
from marquee.pipelines.worker import run_worker
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.remote import PART_BYTES, RemoteStore
from marquee.store.repositories import deployments, outbox

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 240


class Listed(RemoteStore):
    """An archive that remembers the order in which objects came."""

    def upload(self, key, *args, **options):
        arrived = super().upload(key, *args, **options)
        self.arrived = [*getattr(self, "arrived", []), key]
        return arrived


@pytest.fixture
def archived(swift, settings: Settings) -> Settings:
    """Settings with an archive."""
    return settings.model_copy(update={"objects": ObjectSettings(**swift.settings())})


@pytest.fixture
def objects(archived: Settings) -> ObjectStore:
    return ObjectStore(archived.paths.objects, Listed(archived.objects))


def put(database, objects, prefix: str, content: str, suffix: str = "") -> str:
    key = objects.put(prefix, content.encode(), suffix).key
    with database.begin() as connection:
        outbox.add(connection, [key])
    return key


def waiting(database) -> list[outbox.Parcel]:
    with database.begin() as connection:
        return outbox.next_parcels(connection, 1000)


def test_objects_are_delivered_once_and_in_order(database, objects):
    keys = [put(database, objects, f"raw/{9 - n}", str(n)) for n in range(9)]
    told: list[tuple[int, int]] = []
    delivery = Courier(database, objects).deliver(lambda *done: told.append(done))
    assert (delivery.delivered, delivery.size, delivery.refused) == (9, 9, ())
    assert told == [(n + 1, n + 1) for n in range(9)]
    assert objects.remote.arrived == keys
    assert waiting(database) == []
    put(database, objects, "raw/9", "0")  # again
    assert Courier(database, objects).deliver().delivered == 1
    assert len(list(objects.remote.list())) == 9


def test_courier_that_is_killed_in_mid_delivery_is_replaced_and_all_arrives_in_order(
    swift, archived, database, objects, wire
):
    contents = [b"first", os.urandom(3 * PART_BYTES), b"last"]
    keys = [objects.put(f"raw/{9 - n}", content).key for n, content in enumerate(contents)]
    with database.begin() as connection:
        outbox.add(connection, keys)
    between = wire(swift.port)
    chosen = archived.objects.model_copy(update={"endpoint": between.endpoint})
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(archived.home),
        "MARQUEE_DATABASE__URL": database.url,
        **{
            f"MARQUEE_OBJECTS__{name.upper()}": str(value)
            for name, value in chosen.model_dump(exclude_none=True).items()
        },
    }
    dying: list[subprocess.Popen[bytes]] = []
    between.after = (PART_BYTES + PART_BYTES // 2, lambda: dying[0].kill())
    dying.append(
        subprocess.Popen([sys.executable, "-m", "marquee.cli", "archive", "--json"], env=environment)
    )
    assert dying[0].wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert [parcel.key for parcel in waiting(database)] == keys[1:]
    assert [item.key for item in objects.remote.list()] == keys[:1]
    Courier(database, objects).deliver(wait=True)
    assert objects.remote.arrived == keys[1:]
    assert [objects.remote.get_bytes(key, 1 << 30) for key in keys] == contents


def test_more_than_one_page_waits(database, objects, monkeypatch):
    monkeypatch.setattr(courier, "PARCELS_AT_A_TIME", 2)
    for n in range(5):
        put(database, objects, "raw", str(n))
    assert Courier(database, objects).deliver().delivered == 5


def test_archive_that_is_away_keeps_the_order_and_gets_all_of_it_later(make_swift, archived, database):
    swift = make_swift()
    settings = ObjectSettings(**swift.settings() | {"retries": 0})
    objects = ObjectStore(archived.paths.objects, Listed(settings))
    first = put(database, objects, "raw", "before")
    assert Courier(database, objects).deliver().delivered == 1
    swift.kill()
    later = []
    for n in range(3):
        later.append(put(database, objects, f"raw/{9 - n}", str(n)))
        with pytest.raises(StoreUnavailableError):
            Courier(database, objects).deliver()
    assert [parcel.key for parcel in waiting(database)] == later
    assert [parcel.attempts for parcel in waiting(database)] == [3, 0, 0]
    assert "cannot be reached" in waiting(database)[0].last_error
    swift.start()
    Courier(database, objects).deliver()
    assert objects.remote.arrived == [first, *later]
    assert waiting(database) == []


def test_wrong_key_delivers_nothing_and_is_remembered(archived, swift, database, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text(swift.credentials.read_text().replace("testing123", "guessed"))
    refused = archived.objects.model_copy(update={"credentials_file": wrong})
    objects = ObjectStore(archived.paths.objects, RemoteStore(refused))
    key = put(database, objects, "raw", "secret")
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
        Courier(database, objects).deliver()
    (parcel,) = waiting(database)
    assert (parcel.key, parcel.attempts) == (key, 1)
    assert list(RemoteStore(archived.objects).list()) == []


def test_damaged_object_is_named_and_holds_back_only_what_may_name_it(database, objects):
    damaged = put(database, objects, "bundles/ease/1", "arrays", ".arrays")
    manifest = put(database, objects, "bundles/ease/1", "manifest", ".manifest.json")
    other = put(database, objects, "bundles/ease/2", "other")
    (objects.root / damaged).write_bytes(b"arrayz")
    delivery = Courier(database, objects).deliver()
    assert [key for key, _ in delivery.refused] == [damaged, manifest]
    assert "damaged here" in delivery.refused[0][1]
    assert objects.remote.arrived == [other]
    objects.put("bundles/ease/1", b"arrays", ".arrays")  # mended
    assert Courier(database, objects).deliver().refused == ()
    assert objects.remote.arrived == [other, damaged, manifest]


def test_object_that_another_home_has_delivered_waits_no_longer(database, objects):
    there = put(database, objects, "raw", "there")
    nowhere = put(database, objects, "snapshots", "nowhere")
    objects.remote.upload(there, objects.root / there, there[-64:])
    for key in (there, nowhere):
        (objects.root / key).unlink()
    delivery = Courier(database, objects).deliver()
    assert [key for key, _ in delivery.refused] == [nowhere]
    assert "neither here nor in" in delivery.refused[0][1]
    assert [parcel.key for parcel in waiting(database)] == [nowhere]


def test_of_two_couriers_one_delivers(database, objects):
    put(database, objects, "raw", "one")
    with database.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": courier.LOCK})
        assert Courier(database, objects).deliver() is None
        assert len(waiting(database)) == 1
        other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": courier.LOCK})
    assert Courier(database, objects).deliver(wait=True).delivered == 1


def test_what_is_rolled_back_is_not_delivered(database, objects):
    key = objects.put("raw", b"half").key

    def add_and_fail() -> None:
        with database.begin() as connection:
            outbox.add(connection, [key, key])
            raise KeyError

    with pytest.raises(KeyError):
        add_and_fail()
    with database.begin() as connection:
        assert outbox.waiting(connection) == (0, None)
        outbox.add(connection, [])
        outbox.add(connection, [key, key])
        count, oldest = outbox.waiting(connection)
    assert count == 1
    assert oldest <= datetime.now(UTC)


def test_what_the_archive_lacks_is_sent_with_manifests_last(database, objects):
    manifest = objects.put("bundles/ease/1", b"{}", ".manifest.json").key
    arrays = objects.put("bundles/ease/1", b"arrays", ".arrays").key
    there = objects.put("raw", b"there").key
    objects.remote.upload(there, objects.root / there, there[-64:])
    objects.remote.arrived.clear()
    assert enqueue_lacking(database, objects) == 2
    Courier(database, objects).deliver()
    assert objects.remote.arrived == [arrays, manifest]
    assert enqueue_lacking(database, objects) == 0


async def test_worker_delivers_and_goes_on_after_an_outage(make_swift, archived, database, monkeypatch):
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(courier, "MAX_PAUSE_SECONDS", 0.1)
    swift = make_swift()
    settings = archived.model_copy(update={"objects": ObjectSettings(**swift.settings() | {"retries": 0})})
    objects = ObjectStore.of(settings)
    stop = asyncio.Event()
    put(database, objects, "raw", "before")
    with structlog.testing.capture_logs() as logs:
        worker = asyncio.create_task(run_worker(settings, stop, pipelines={}))
        await eventually(lambda: not waiting(database))
        swift.kill()
        put(database, objects, "raw", "during")
        await eventually(lambda: waiting(database)[0].attempts >= 3)
        await asyncio.to_thread(swift.start)
        await eventually(lambda: not waiting(database))
        stop.set()
        await worker
    said = [line for line in logs if line["event"] == "courier.not_delivered"]
    assert len(said) == 1  # not at every attempt
    assert "cannot be reached" in said[0]["error"]
    assert len(list(objects.remote.list())) == 2


def test_archive_command_sends_what_waits_and_says_what_is_stuck(archived, database, objects, monkeypatch):
    put(database, objects, "raw", "waits")
    objects.put("raw", b"never noted")
    environment = {
        "MARQUEE_HOME": str(archived.home),
        "MARQUEE_DATABASE__URL": database.url,
        **{
            f"MARQUEE_OBJECTS__{name.upper()}": str(value)
            for name, value in archived.objects.model_dump().items()
            if value is not None
        },
    }
    runner = CliRunner()
    done = runner.invoke(app, ["archive"], env=environment)
    assert done.exit_code == 0, done.output
    assert "2 objects sent" in done.output
    stuck = put(database, objects, "raw", "stuck")
    (objects.root / stuck).write_bytes(b"other")
    done = runner.invoke(app, ["archive", "--json"], env=environment)
    assert done.exit_code == 1
    assert stuck in done.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")
def test_everything_that_pipelines_make_is_found_from_an_empty_home(archived, database, objects, tmp_path):
    settings = archived.model_copy(
        update={"mlflow": archived.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/m.db"})}
    )
    for pipeline, parameters in (("prepare", {}), ("train", {"model": "popularity"}), ("infer", {})):
        run_here(settings, database, objects, pipeline, parameters)
    made = {ref.key for ref in objects.list()}
    assert {key.partition("/")[0] for key in made} == {"raw", "snapshots", "bundles", "predictions"}
    assert {parcel.key for parcel in waiting(database)} == made
    assert Courier(database, objects).deliver().delivered == len(made)
    elsewhere = ObjectStore(tmp_path / "elsewhere", objects.remote)
    with database.begin() as connection:
        challenger = deployments.current(connection, "challenger")
    bundle = bundles.load(elsewhere, challenger.bundle, tmp_path / "bundles")
    assert bundle.ref.model == "popularity"
    assert all(elsewhere.get(key) == objects.get(key) for key in made)
