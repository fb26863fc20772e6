"""Unpacked bundles that nobody uses go, and come back when they are wanted."""

import os
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from marquee.data import Interactions
from marquee.models import Popularity
from marquee.store import bundles, unpacked
from marquee.store.bundles import Bundle, BundleRef
from marquee.store.objects import ObjectStore

UNUSED = timedelta(days=90)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def publish(store: ObjectStore, day: int, model: str = "popularity") -> BundleRef:
    return bundles.publish(
        store,
        Popularity().fit(Interactions.of([1, 1, 2], [603, 604, 603], [1, 2, day])).state(),
        model=model,
        cards=pa.table({"item_id": [603, 604], "title": ["The Matrix", "Reloaded"]}),
        metrics={"day": day},
        snapshot="abc",
        code_version="0.1.0",
        created_at=datetime(2026, 1, day, tzinfo=UTC),
    )


def age(bundle: Bundle, days: float) -> None:
    """Let it be used last so many days ago."""
    past = time.time() - days * 86_400
    os.utime(bundle.folder, (past, past))


def test_only_what_is_old_and_neither_needed_nor_the_newest_goes(store: ObjectStore, cache: Path) -> None:
    needed, unused, recent, newest = (bundles.load(store, publish(store, day), cache) for day in (1, 2, 3, 4))
    for bundle in (needed, unused, newest):
        age(bundle, 91)
    age(recent, 89)
    note = cache / f"{unused.folder.name}.verified"
    note.touch()
    converted = cache / f"{unused.folder.name}.format-2"
    shutil.copytree(unused.folder, converted)
    (cache / "deployed.json").touch()
    assert unpacked.let_unused_go(cache, [needed.ref.key, ""], UNUSED) == 1
    assert not any(path.exists() for path in (unused.folder, note, converted))
    assert all(bundle.folder.is_dir() for bundle in (needed, recent, newest))
    assert (cache / "deployed.json").exists()
    assert unpacked.let_unused_go(cache, [needed.ref.key], UNUSED) == 0


def test_newest_of_each_model_stays(store: ObjectStore, cache: Path) -> None:
    loaded = [bundles.load(store, publish(store, day, model), cache) for day, model in ((1, "a"), (2, "b"))]
    for bundle in loaded:
        age(bundle, 91)
    assert unpacked.let_unused_go(cache, [], UNUSED) == 0
    (loaded[0].folder / "manifest.json").write_text("torn")
    assert unpacked.let_unused_go(cache, [], UNUSED) == 1


def test_loading_notes_the_use(store: ObjectStore, cache: Path) -> None:
    ref = publish(store, 1)
    bundles.load(store, publish(store, 2), cache)
    age(bundles.load(store, ref, cache), 91)
    bundles.load(store, ref, cache)
    assert unpacked.let_unused_go(cache, [], UNUSED) == 0


def test_removed_bundle_serves_who_has_it_and_is_unpacked_again(store: ObjectStore, cache: Path) -> None:
    ref = publish(store, 1)
    bundles.load(store, publish(store, 2), cache)
    before = bundles.load(store, ref, cache)
    age(before, 91)
    assert unpacked.let_unused_go(cache, [], UNUSED) == 1
    again = bundles.load(store, ref, cache)
    assert {name: array.tolist() for name, array in before.arrays.items()} == {
        name: array.tolist() for name, array in again.arrays.items()
    }


def test_bundle_that_is_removed_while_it_is_loaded_is_unpacked_again(store: ObjectStore, cache: Path) -> None:
    ref = publish(store, 1)
    folder = bundles.load(store, ref, cache).folder
    age(bundles.load(store, ref, cache), 91)
    loaded: list[Bundle] = []
    loading = threading.Thread(target=lambda: loaded.append(bundles.load(store, ref, cache)))
    with unpacked.alone(cache):  # as who removes it has the folder
        loading.start()
        loading.join(0.2)
        assert loading.is_alive()
        shutil.rmtree(folder)
    loading.join()
    assert loaded[0].ref == ref
    assert folder.is_dir()


def test_bundles_of_a_machine_that_has_none_are_none(cache: Path) -> None:
    assert unpacked.let_unused_go(cache, [], UNUSED) == 0
    assert not cache.exists()


def test_what_a_killed_process_left_goes(store: ObjectStore, cache: Path) -> None:
    bundle = bundles.load(store, publish(store, 1), cache)
    bundle.folder.rename(cache / f"{unpacked.STAGING}{bundle.folder.name}")
    assert unpacked.let_unused_go(cache, [], UNUSED) == 0
    assert not list(cache.glob(f"{unpacked.STAGING}*"))
