import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Histories, Interactions, Vocabulary
from marquee.data.schema import CSR
from marquee.errors import IncompatibleBundleError, NotFoundError
from marquee.models import ModelState, Popularity
from marquee.recommend import SimilarItems
from marquee.store import bundles, stamps
from marquee.store.bundles import Bundle, BundleRef
from marquee.store.disk import sha256_of
from marquee.store.objects import ObjectStore

FILES = ["arrays.safetensors", "cards.arrow", "manifest.json"]
MOMENT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def fitted() -> Popularity:
    return Popularity().fit(Interactions.of([1, 1, 2, 3], [603, 604, 603, 862], [1, 2, 3, 4]))


def cards() -> pa.Table:
    return pa.table({"item_id": [603, 604, 862], "title": ["The Matrix", "Reloaded", "Toy Story"]})


def publish(store: ObjectStore, state: ModelState, **changes) -> BundleRef:
    given = {
        "model": "popularity",
        "cards": cards(),
        "metrics": {"accuracy": 0.5},
        "snapshot": "abc",
        "code_version": "0.1.0",
        "created_at": MOMENT,
    }
    return bundles.publish(store, state, **{**given, **changes})


def test_curves_are_kept_and_are_no_part_of_what_the_bundle_is(store, fitted):
    curves = [{"name": "loss", "steps": [1, 2], "values": [2.0, 1.0]}]
    plain, told = publish(store, fitted.state()), publish(store, fitted.state(), curves=curves)
    assert (plain.digest, plain.version) == (told.digest, told.version)
    assert bundles.read_manifest(store, told.key)["curves"] == curves
    assert "curves" not in bundles.read_manifest(store, plain.key)


def stored_file(store: ObjectStore, ref: BundleRef, name: str) -> Path:
    (found,) = (store.root / ref.key).parent.glob(f"*.{name}")
    return found


def unpacked_file(bundle: Bundle, name: str) -> Path:
    return bundle.folder / name


def settle(cache: Path) -> None:
    """Wait until what is unpacked is older than the grain of the file system's times."""
    newest = max(path.stat().st_ctime_ns for path in cache.glob("*/*"))
    while time.time_ns() <= newest + stamps.TICK_NANOSECONDS:
        time.sleep(0.005)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_published_model_answers_the_same_after_loading(store, cache, fitted):
    bundle = bundles.load(store, publish(store, fitted.state()), cache)
    histories = Histories.of_items([603], [])
    found = bundle.recommender().recommend(histories, 3)
    expected = fitted.recommend(histories, 3)
    np.testing.assert_array_equal(found.item_ids, expected.item_ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert bundle.cards.equals(cards())
    assert bundle.manifest["metrics"] == {"accuracy": 0.5}
    assert bundle.manifest["snapshot"] == "abc"
    assert bundle.manifest["created_at"] == MOMENT.isoformat()
    assert bundle.manifest["vocabularies"] == {"item_ids": fitted.items.digest()}


def test_similar_items_travel_beside_the_model(store, cache, fitted):
    rows = Interactions.of([1, 1, 2, 2, 3], [603, 604, 603, 604, 862], [1, 2, 3, 4, 5])
    similar = SimilarItems.fit(rows)
    bundle = bundles.load(store, publish(store, fitted.state(), similar=similar), cache)
    np.testing.assert_array_equal(
        bundle.similar().similar([603], 2).item_ids, similar.similar([603], 2).item_ids
    )
    assert bundle.state.arrays.keys() == fitted.state().arrays.keys()
    assert bundle.state.meta == fitted.state().meta
    histories = Histories.of_items([603], [])
    np.testing.assert_array_equal(
        bundle.recommender().recommend(histories, 3).item_ids, fitted.recommend(histories, 3).item_ids
    )
    assert bundles.load(store, publish(store, fitted.state()), cache).similar() is None


def test_names_of_the_similar_items_are_not_for_models(store):
    for state in (ModelState({"similar/ids": np.zeros(1)}, {}), ModelState({}, {"similar": 1})):
        with pytest.raises(ValueError, match="similar items"):
            publish(store, state)


def test_catalogue_of_a_bundle_is_what_its_cards_say(store, cache, fitted):
    films = cards().append_column("genres", pa.array([["Action"], ["Action"], ["Animation"]]))
    catalog = bundles.load(store, publish(store, fitted.state(), cards=films), cache).catalog()
    assert catalog.item_ids.tolist() == [603, 604, 862]
    assert catalog.table["genres"].to_pylist() == [["Action"], ["Action"], ["Animation"]]
    assert catalog.table["runtime_minutes"].null_count == 3


def test_size_and_manifest_are_known_without_the_files(store, cache, fitted):
    ref = publish(store, fitted.state())
    bundle = bundles.load(store, ref, cache)
    assert bundles.read_manifest(store, ref.key) == bundle.manifest
    assert bundle.size == sum(unpacked_file(bundle, name).stat().st_size for name in FILES[:2])


def test_loading_again_needs_no_object_store(store, cache, fitted, tmp_path):
    ref = publish(store, fitted.state())
    bundles.load(store, ref, cache)
    assert bundles.load(ObjectStore(tmp_path / "empty"), ref.key, cache).ref == ref


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i8"]
)
def test_every_dtype_and_shape_comes_back(store, cache, dtype):
    arrays = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "transposed": np.arange(6).reshape(2, 3).astype(dtype).T,
        "strided": np.arange(10).astype(dtype)[::3],
        "scalar": np.array(1, dtype),
        "empty": np.zeros((0, 7), dtype),
        "odd/bytes": np.ones(3, "i1"),
    }
    bundle = bundles.load(store, publish(store, ModelState(arrays, {})), cache)
    assert bundle.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        found = bundle.arrays[name]
        assert found.shape == array.shape
        assert found.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)


def test_state_without_arrays_is_a_bundle(store, cache):
    bundle = bundles.load(store, publish(store, ModelState({}, {"config": {"seed": 1}})), cache)
    assert bundle.state == ModelState({}, {"config": {"seed": 1}})


def test_arrays_are_mapped_and_read_only(store, cache, fitted):
    bundle = bundles.load(store, publish(store, fitted.state()), cache)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(bundle.folder / "arrays.safetensors") in maps.read_text()
    for array in bundle.arrays.values():
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_sparse_matrix_over_mapped_arrays_is_not_a_copy(store, cache):
    """SciPy copies what is a small part of a longer array, in its constructor and in every product."""
    parts = {"data": np.ones(3, np.float32), "indices": np.array([0, 1, 2]), "indptr": np.array([0, 1, 2, 3])}
    arrays = {"item_ids": np.array([603, 604, 862]), "weights": np.zeros(10_000), **parts}
    found = bundles.load(store, publish(store, ModelState(arrays, {})), cache).arrays
    matrix = CSR((found["data"], found["indices"], found["indptr"]), shape=(3, 3))
    for name in ("data", "indices", "indptr"):
        assert np.shares_memory(getattr(matrix, name), found[name])
        assert not found[name].flags.writeable


def test_same_input_gives_the_same_bytes(store, fitted):
    first = publish(store, fitted.state())
    assert publish(store, fitted.state()) == first
    later = publish(store, fitted.state(), created_at=datetime(2026, 11, 23, tzinfo=UTC))
    assert later.digest == first.digest
    assert later.version > first.version


def test_another_config_with_equal_arrays_is_another_digest(store):
    digests = {publish(store, ModelState({}, {"config": {"seed": seed}})).digest for seed in range(3)}
    assert len(digests) == 3


def test_numpy_values_and_non_finite_metrics_become_json(store, cache):
    state = ModelState({}, {"mean": np.float32(0.5), "count": np.int64(3)})
    metrics = {"loss": float("nan"), "accuracy": np.float64(1)}
    bundle = bundles.load(store, publish(store, state, metrics=metrics), cache)
    assert bundle.state.meta == {"mean": 0.5, "count": 3}
    assert bundle.manifest["metrics"] == {"loss": None, "accuracy": 1.0}


def test_unusable_input_is_refused_before_anything_is_visible(store):
    with pytest.raises(ValueError, match=r"'words'.*<U3"):
        publish(store, ModelState({"words": np.array(["abc"])}, {}))
    with pytest.raises(ValueError, match="JSON-able"):
        publish(store, ModelState({}, {"config": object()}))
    with pytest.raises(ValueError, match="title"):
        publish(store, ModelState({}, {}), cards=pa.table({"item_id": [1]}))
    assert store.list("bundles") == []


def test_nested_vocabularies_are_in_the_manifest(store, cache, fitted):
    state = ModelState.join({"first": fitted.state()}, {"kind": "stack"})
    bundle = bundles.load(store, publish(store, state), cache)
    ids = bundle.state.nested("first").arrays["item_ids"]
    assert bundle.manifest["vocabularies"] == {"first/item_ids": Vocabulary(ids).digest()}


def test_name_of_a_class_is_one_folder(store, fitted):
    ref = publish(store, fitted.state(), model="package.module:Class/x")
    assert ref.key.split("/")[:3] == ["bundles", "package.module:Class_x", ref.version]
    assert bundles.read_manifest(store, ref.key)["digest"] == ref.digest


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_the_object_store_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    flip_a_bit(stored_file(store, ref, name))
    with pytest.raises(IncompatibleBundleError, match=name) as caught:
        bundles.load(store, ref, cache)
    assert caught.value.fix
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_the_cache_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    flip_a_bit(unpacked_file(bundles.load(store, ref, cache), name))
    with pytest.raises(IncompatibleBundleError, match=f"{name}.*SHA-256") as caught:
        bundles.load(store, ref, cache)
    assert str(cache) in caught.value.fix


def test_verified_bundle_is_not_read_again(store, cache, fitted, monkeypatch):
    ref = publish(store, fitted.state())
    bundles.load(store, ref, cache)
    settle(cache)
    read = []
    monkeypatch.setattr(bundles, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    for _ in range(3):
        bundles.load(store, ref, cache)
    assert read == FILES[:2]  # by the first load after the files had settled


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_a_verified_bundle_is_refused_though_its_date_is_kept(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    file = unpacked_file(bundles.load(store, ref, cache), name)
    settle(cache)
    bundles.load(store, ref, cache)
    before = file.stat()
    flip_a_bit(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IncompatibleBundleError, match=f"{name}.*SHA-256"):
        bundles.load(store, ref, cache)


@pytest.mark.parametrize("name", FILES[:2])
def test_replaced_file_in_a_verified_bundle_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    file = unpacked_file(bundles.load(store, ref, cache), name)
    settle(cache)
    bundles.load(store, ref, cache)
    other = cache / "other"
    other.write_bytes(bytes(file.stat().st_size))
    other.replace(file)
    with pytest.raises(IncompatibleBundleError, match=f"{name}.*SHA-256"):
        bundles.load(store, ref, cache)


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b"\xff"])
def test_stamp_that_says_nothing_is_none(store, cache, fitted, note):
    ref = publish(store, fitted.state())
    file = unpacked_file(bundles.load(store, ref, cache), FILES[0])
    settle(cache)
    bundles.load(store, ref, cache)
    (stamp,) = cache.glob("*.verified")
    stamp.write_bytes(note)
    flip_a_bit(file)
    with pytest.raises(IncompatibleBundleError, match="SHA-256"):
        bundles.load(store, ref, cache)


def test_file_that_has_just_changed_gets_no_stamp(store, cache, fitted, monkeypatch):
    """A second write within a tick of the clock would not show in its times."""
    monkeypatch.setattr(stamps, "TICK_NANOSECONDS", 3_600_000_000_000)
    ref = publish(store, fitted.state())
    for _ in range(2):
        bundles.load(store, ref, cache)
    assert not list(cache.glob("*.verified"))


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    file = unpacked_file(bundles.load(store, ref, cache), name)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IncompatibleBundleError, match=name):
        bundles.load(store, ref, cache)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    unpacked_file(bundles.load(store, ref, cache), name).unlink()
    with pytest.raises(IncompatibleBundleError, match=f"{name}.*missing"):
        bundles.load(store, ref, cache)


@pytest.mark.parametrize("name", FILES[:2])
def test_file_missing_in_the_object_store_is_refused(store, cache, fitted, name):
    ref = publish(store, fitted.state())
    stored_file(store, ref, name).unlink()
    with pytest.raises(IncompatibleBundleError, match=f"{name}.*missing"):
        bundles.load(store, ref, cache)


def test_extra_file_is_refused(store, cache, fitted):
    ref = publish(store, fitted.state())
    bundle = bundles.load(store, ref, cache)
    (bundle.folder / "model.pkl").touch()
    with pytest.raises(IncompatibleBundleError, match=r"model\.pkl.*not name"):
        bundles.load(store, ref, cache)


def test_extra_object_is_refused(store, cache, fitted):
    ref = publish(store, fitted.state())
    store.put(ref.key.rpartition("/")[0], b"more", ".model.pkl")
    with pytest.raises(IncompatibleBundleError, match=r"model\.pkl.*not name"):
        bundles.load(store, ref, cache)


def tampered(store: ObjectStore, ref: BundleRef, **changes) -> str:
    """The key of a manifest that was changed and stored under its new digest, as an attacker would."""
    manifest = {**json.loads(store.get(ref.key)), **changes}
    return store.put(ref.key.rpartition("/")[0], json.dumps(manifest).encode(), ".manifest.json").key


def test_tampered_manifest_is_refused(store, cache, fitted):
    ref = publish(store, fitted.state())
    key = tampered(store, ref, metrics={"accuracy": 1.0})
    with pytest.raises(IncompatibleBundleError, match=r"manifest\.json.*digest"):
        bundles.load(store, key, cache)


def test_manifest_of_another_bundle_is_refused(store, cache, fitted):
    ref = publish(store, fitted.state())
    other = publish(store, ModelState({}, {}))
    with pytest.raises(IncompatibleBundleError, match=r"manifest\.json"):
        bundles.load(store, BundleRef(other.key, ref.digest, ref.model, ref.version), cache)


def test_unknown_format_version_says_which_marquee_to_use(store, cache, fitted):
    ref = publish(store, fitted.state())
    key = tampered(store, ref, format_version=99, code_version="9.9.9")
    with pytest.raises(IncompatibleBundleError, match="format version 99") as caught:
        bundles.load(store, key, cache)
    assert "Marquee 9.9.9" in caught.value.fix


def test_missing_bundle_is_not_found(store, cache):
    key = f"bundles/mlp/v/{hashlib.sha256(b'').hexdigest()}.manifest.json"
    with pytest.raises(NotFoundError):
        bundles.load(store, key, cache)
    with pytest.raises(ValueError, match="manifest"):
        bundles.load(store, "bundles/mlp", cache)


def test_bundle_of_an_unknown_model_says_so(store, cache):
    bundle = bundles.load(store, publish(store, ModelState({}, {}), model="no.such:Model"), cache)
    with pytest.raises(IncompatibleBundleError, match="not installed"):
        bundle.recommender()


LOAD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from marquee.store import bundles, stamps
    from marquee.store.disk import sha256_of
    from marquee.store.objects import ObjectStore
    store = ObjectStore(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    print(int(bundles.load(store, sys.argv[2], Path(sys.argv[3])).arrays["weights"].sum()))
    """
)


def test_two_processes_unpack_at_once(store, cache):
    ref = publish(store, ModelState({"weights": np.ones(3_000_000, np.float32)}, {}))
    cache.mkdir()
    (cache / ".unpack-left").mkdir()
    command = [sys.executable, "-c", LOAD, str(store.root), ref.key, str(cache)]
    loaders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for loader in loaders:
        assert loader.stdout.readline() == "ready\n"
    for loader in loaders:
        loader.stdin.write("go\n")
        loader.stdin.flush()
    assert [loader.communicate(timeout=60)[0] for loader in loaders] == ["3000000\n"] * 2
    assert len([entry for entry in cache.iterdir() if entry.suffix != ".verified"]) == 1


PUBLISH = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np, pyarrow as pa
    from marquee.models import ModelState
    from marquee.store import bundles, stamps
    from marquee.store.disk import sha256_of
    from marquee.store.objects import ObjectStore

    class Slow(ObjectStore):
        def put(self, prefix, data, suffix=""):
            if suffix == sys.argv[2]:
                print("here", flush=True)
                sys.stdin.readline()
            return super().put(prefix, data, suffix)

    cards = pa.table({"item_id": [1], "title": ["One"]})
    bundles.publish(
        Slow(Path(sys.argv[1])), ModelState({"weights": np.ones(9)}, {}), model="popularity", cards=cards,
        metrics={}, snapshot="s", code_version="0.1.0",
    )
    """
)


def manifests(store):
    return [found.key for found in store.list("bundles") if found.key.endswith(".manifest.json")]


@pytest.mark.parametrize("name", FILES)
def test_killed_publish_leaves_no_visible_bundle_and_a_rerun_works(store, cache, name):
    command = [sys.executable, "-c", PUBLISH, str(store.root), f".{name}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert manifests(store) == []
    ref = publish(store, ModelState({"weights": np.ones(9)}, {}))
    assert manifests(store) == [ref.key]
    np.testing.assert_array_equal(bundles.load(store, ref, cache).arrays["weights"], np.ones(9))
