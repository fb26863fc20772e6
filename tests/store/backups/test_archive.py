"""Backups in a real S3 service: what happens to it never makes a manifest that lies."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from marquee.config import ObjectSettings
from marquee.errors import DamagedObjectError, StoreError, StoreUnavailableError
from marquee.store.backups import Vault, prune, restore, take_backup, verify
from marquee.store.backups.fingerprint import fingerprint
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.remote import RemoteStore

PREFIX = "some/prefix"


def home(folder: Path, settings: dict[str, Any]) -> ObjectStore:
    return ObjectStore(folder / "objects", RemoteStore(ObjectSettings(**settings)))


def bucket(swift: Any, settings: dict[str, Any]) -> Any:
    return swift.store(settings["url"].split("/")[2])


def stored(swift: Any, settings: dict[str, Any]) -> list[str]:
    return [meta["path"] for chunk in obstore.list(bucket(swift, settings)) for meta in chunk]


def test_backup_is_restored_on_a_machine_that_has_nothing(
    filled: Database, empty: Database, swift: Any, tmp_path: Path
) -> None:
    settings = swift.settings()
    backup = take_backup(filled, home(tmp_path / "first", settings))
    assert not (tmp_path / "first/objects/tables").exists()
    other = home(tmp_path / "second", settings)
    restore(empty, other, Vault(other).find(), secrets=tmp_path / "secrets")
    assert fingerprint(empty) == fingerprint(filled)
    assert Vault(other).find().name == backup.name


def test_incremental_backup_sends_only_what_is_new(filled: Database, swift: Any, tmp_path: Path) -> None:
    settings = swift.settings()
    objects = home(tmp_path, settings)
    take_backup(filled, objects)
    before = set(stored(swift, settings))
    take_backup(filled, objects)
    assert {key.split("/")[2] for key in set(stored(swift, settings)) - before} == {"backups"}


def test_wrong_secret_is_one_clear_error_and_nothing_is_written(
    filled: Database, swift: Any, tmp_path: Path
) -> None:
    settings = swift.settings()
    wrong = tmp_path / "credentials"
    wrong.write_text("[default]\naws_access_key_id = test:tester\naws_secret_access_key = wrong\n")
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
        take_backup(filled, home(tmp_path, {**settings, "credentials_file": wrong}))
    assert stored(swift, settings) == []


@pytest.mark.slow
def test_service_that_is_killed_meanwhile_leaves_no_backup_and_the_next_try_goes_on(
    filled: Database, make_swift: Callable[..., Any], tmp_path: Path
) -> None:
    swift = make_swift()
    settings = {**swift.settings(), "retries": 0, "timeout_seconds": 5}
    objects = home(tmp_path, settings)

    def told(step: str, done: int, total: int | None) -> None:
        if step == "back up users":
            swift.kill()

    with pytest.raises(StoreUnavailableError):
        take_backup(filled, objects, told=told)
    swift.start()
    assert Vault(objects).manifests() == []
    arrived = set(stored(swift, settings))
    backup = take_backup(filled, objects)
    assert arrived
    assert arrived < set(stored(swift, settings))
    assert verify(objects, backup).whole


def test_slow_service_is_waited_for(filled: Database, swift: Any, wire: Any, tmp_path: Path) -> None:
    """Every byte of it comes in dribs and drabs, and none of them too late."""
    between = wire(swift.port)
    between.dribbles = 0.0005
    settings = swift.settings()
    objects = home(tmp_path, {**settings, "endpoint": between.endpoint})
    backup = take_backup(filled, objects)
    assert verify(objects, backup).whole
    assert Vault(home(tmp_path / "other", settings)).find().name == backup.name


def test_service_that_falls_silent_meanwhile_leaves_no_backup_and_the_next_try_goes_on(
    filled: Database, swift: Any, wire: Any, tmp_path: Path
) -> None:
    between = wire(swift.port)
    settings = swift.settings()
    slow = {**settings, "endpoint": between.endpoint, "retries": 0, "timeout_seconds": 1}
    between.stalls_at = 30_000
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        take_backup(filled, home(tmp_path, slow))
    objects = home(tmp_path, settings)
    assert Vault(objects).manifests() == []
    arrived = set(stored(swift, settings))
    assert arrived
    backup = take_backup(filled, objects)
    assert arrived < set(stored(swift, settings))
    assert verify(objects, backup).whole


@pytest.mark.slow
def test_clock_that_goes_wrong_meanwhile_is_said_and_leaves_no_backup_until_it_is_right(
    filled: Database, make_swift: Callable[..., Any], tmp_path: Path
) -> None:
    swift = make_swift()
    settings = swift.settings()
    objects = home(tmp_path, settings)

    def at(offset: float) -> None:
        swift.kill()
        swift.clock_offset = offset
        swift.start()

    def told(step: str, done: int, total: int | None) -> None:
        if step == "back up users" and not swift.clock_offset:
            at(7200)

    with pytest.raises(StoreError, match="RequestTimeTooSkewed") as caught:
        take_backup(filled, objects, told=told)
    assert "clock" in (caught.value.fix or "")
    at(0)
    assert Vault(objects).manifests() == []
    arrived = set(stored(swift, settings))
    assert arrived
    backup = take_backup(filled, objects)
    assert arrived < set(stored(swift, settings))
    assert verify(objects, backup).whole


def test_object_that_was_damaged_in_the_service_is_named(
    filled: Database, empty: Database, swift: Any, tmp_path: Path
) -> None:
    settings = swift.settings()
    objects = home(tmp_path, settings)
    backup = take_backup(filled, objects)
    key = backup.tables["items"].pieces[0].key
    obstore.put(bucket(swift, settings), f"{PREFIX}/{key}", b"something else")
    assert list(verify(objects, backup).damaged) == [key]
    with pytest.raises(DamagedObjectError, match=key):
        restore(empty, objects, backup, secrets=tmp_path / "secrets")


def test_full_disk_while_fetching_is_named_and_nothing_is_half_restored(
    filled: Database, empty: Database, swift: Any, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a disk without space."""
    settings = swift.settings()
    backup = take_backup(filled, home(tmp_path, settings))
    assert max(piece.size for table in backup.tables.values() for piece in table.pieces) > 5_000
    script = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from marquee.config import ObjectSettings, Settings\n"
        "from marquee.errors import StoreError\n"
        "from marquee.store.backups import Vault, restore\n"
        "from marquee.store.objects import ObjectStore\n"
        "from marquee.store.postgres import Database\n"
        "from marquee.store.remote import RemoteStore\n"
        "home, url, archive = sys.argv[1:]\n"
        "settings = Settings(home=home, database={'url': url})\n"
        "objects = ObjectStore(Path(home, 'objects'), RemoteStore(ObjectSettings(**json.loads(archive))))\n"
        "with Database.open(settings, prepare=False) as database:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        "    try:\n"
        "        restore(database, objects, Vault(objects).find(), secrets=Path(home))\n"
        "    except StoreError as error:\n"
        "        print(error)\n"
    )
    given = [str(tmp_path / "other"), empty.url, json.dumps(settings, default=str)]
    ended = subprocess.run([sys.executable, "-c", script, *given], capture_output=True, text=True, check=True)
    assert "space" in ended.stdout
    assert "tables/" in ended.stdout
    with empty.begin() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('users')").scalar() is None


def test_pruning_keeps_what_a_kept_backup_needs(filled: Database, swift: Any, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    objects = home(tmp_path, swift.settings())
    take_backup(filled, objects)
    with filled.begin() as connection:
        connection.exec_driver_sql("UPDATE items SET title = 'x'")
    newest = take_backup(filled, objects)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    pruned = prune(filled, objects, daily=1, weekly=0, now=tomorrow)
    assert (pruned.kept, len(pruned.removed), pruned.objects) == ([newest.name], 1, 1)
    assert verify(objects, newest).whole


def test_damaged_manifest_that_would_stay_keeps_everything_until_it_is_deleted(
    filled: Database, swift: Any, tmp_path: Path
) -> None:
    settings = swift.settings()
    objects = home(tmp_path, settings)
    oldest, damaged = take_backup(filled, objects), take_backup(filled, objects)
    obstore.put(bucket(swift, settings), f"{PREFIX}/{damaged.key}", damaged.encode()[:-1])
    before = set(stored(swift, settings))
    with pytest.raises(DamagedObjectError, match="Nothing is pruned") as caught:
        prune(filled, objects, daily=1, weekly=0)
    assert f"Delete {damaged.key}" in (caught.value.fix or "")
    assert set(stored(swift, settings)) == before
    Vault(objects).remote.delete(damaged.key)
    assert prune(filled, objects, daily=1, weekly=0).kept == [oldest.name]
