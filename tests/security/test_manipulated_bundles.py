"""
Bundles that somebody has changed: refused by name and reason, with nothing left behind.

Bundles are not uploaded. A worker publishes them, the archive or a restored backup brings them; so whoever
manipulates one writes to the object directory or to the archive, which is what these tests do.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

from marquee.api.app import create_app
from marquee.config import ObjectSettings
from marquee.data import Interactions
from marquee.errors import IncompatibleBundleError, MarqueeError
from marquee.models import Popularity
from marquee.store import bundles, manifests
from marquee.store.bundles import BundleRef
from marquee.store.objects import ObjectStore
from marquee.store.remote import RemoteStore
from marquee.store.repositories import deployments

ARRAYS, CARDS, MANIFEST = "arrays.safetensors", "cards.arrow", "manifest.json"
IDS = [603, 604, 862]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def publish(store: ObjectStore, model: str = "popularity") -> BundleRef:
    fitted = Popularity().fit(Interactions.of([1, 1, 2, 3], [603, 604, 603, 862], [1, 2, 3, 4]))
    columns = {"poster_path": [None] * 3, "overview": ["One.", "Two.", "Three."]}
    cards = pa.table({"item_id": IDS, "title": ["The Matrix", "Reloaded", "Toy Story"], **columns})
    return bundles.publish(
        store, fitted.state(), model=model, cards=cards, metrics={}, snapshot="s", code_version="0.2.0"
    )


def stored(store: ObjectStore, ref: BundleRef, name: str) -> Path:
    (found,) = (store.root / ref.key).parent.glob(f"*.{name}")
    return found


def forged(store: ObjectStore, ref: BundleRef, change: Callable[[dict], object], **files: bytes) -> str:
    """
    The key of a bundle whose digests all fit, as only somebody who knows the format can make it.

    Args:
        change: of the manifest, before its digest is computed.
        files: contents in the place of those that were published, by `arrays` and `cards`.
    """
    manifest = json.loads(store.get(ref.key))
    prefix = ref.key.rpartition("/")[0]
    for short, content in files.items():
        name = {"arrays": ARRAYS, "cards": CARDS}[short]
        stored(store, ref, name).unlink()
        made = store.put(prefix, content, f".{name}")
        manifest["files"][name] = {"sha256": made.sha256, "size": made.size}
    change(manifest)
    with contextlib.suppress(AttributeError, KeyError, TypeError):  # so much is missing that there is none
        manifest["digest"] = manifests.digest_of(manifest)
    (store.root / ref.key).unlink()
    return store.put(prefix, manifests.encode(manifest), f".{MANIFEST}").key


def assert_refused(store: ObjectStore, cache: Path, key: str, *words: str) -> None:
    with pytest.raises(IncompatibleBundleError) as caught:
        bundles.load(store, key, cache)
    assert caught.value.fix
    for word in (*words, key):
        assert word in str(caught.value)
    left = [path.name for path in cache.iterdir()]
    assert not [name for name in left if name.startswith(".unpack")]


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("../../../../outside", {"sha256": "0" * 64, "size": 1}),
        ("/outside", {"sha256": "0" * 64, "size": 1}),
        ("..", {"sha256": "0" * 64, "size": 1}),
        ("model.pkl", {"sha256": "0" * 64, "size": 1}),
        (MANIFEST, {"sha256": "0" * 64, "size": 1}),
        ("nul\x00", {"sha256": "0" * 64, "size": 1}),
        (ARRAYS, {"sha256": "../../../etc/passwd", "size": 1}),
        (ARRAYS, {"sha256": 5, "size": 1}),
        (ARRAYS, {"sha256": "0" * 64, "size": "1"}),
        (ARRAYS, {"sha256": "0" * 64}),
        (ARRAYS, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_manifest_that_names_other_files_is_refused_before_any_path_is_made(store, cache, name, entry):
    key = forged(store, publish(store), lambda manifest: manifest["files"].update({name: entry}))
    assert_refused(store, cache, key, MANIFEST)


def test_file_that_a_manifest_names_is_not_copied_out_of_the_folder(store, cache, tmp_path):
    """The object is there, too: only the name stands between it and the disk."""
    ref = publish(store)
    target = tmp_path / "outside"
    made = store.put(f"{ref.key.rpartition('/')[0]}", b"planted", ".x")
    entry = {"sha256": made.sha256, "size": made.size}
    key = forged(store, ref, lambda manifest: manifest["files"].update({str(target): entry}))
    assert_refused(store, cache, key, MANIFEST)
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("files"),
        lambda manifest: manifest["files"].pop(CARDS),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.pop("meta"),
        lambda manifest: manifest.update(meta=[]),
        lambda manifest: manifest.pop("model"),
        lambda manifest: manifest.update(model=["popularity"]),
        lambda manifest: manifest.update(version=7),
        lambda manifest: manifest.update(format_version="1"),
        lambda manifest: manifest.update(format_version=99),
    ],
)
def test_manifest_that_lacks_something_is_refused(store, cache, change):
    assert_refused(store, cache, forged(store, publish(store), change), MANIFEST)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 200_000, b'{"format_version": NaN}']
)
def test_manifest_that_is_none_is_refused(store, cache, content):
    ref = publish(store)
    key = store.put(ref.key.rpartition("/")[0], content, f".{MANIFEST}").key
    assert_refused(store, cache, key, MANIFEST)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(model="ease"),
        lambda manifest: manifest.update(version="20990101T000000.000000Z-0123456789ab"),
        lambda manifest: manifest.update(version="../../other"),
    ],
)
def test_bundle_that_passes_itself_off_as_another_is_refused(store, cache, change):
    """Its digests all fit, but it lies where another name is expected."""
    assert_refused(store, cache, forged(store, publish(store), change), MANIFEST)


def safetensors(header: object, data: bytes = b"\0" * 24, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def entry(dtype: str = "I64", shape: object = (3,), offsets: object = (0, 24)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        safetensors({}, b"", length=2**63),
        safetensors({}, b"", length=2**64 - 1),
        safetensors({"a": entry()}, length=10**6),
        safetensors(b"[" * 100_000),
        safetensors(b"{"),
        safetensors([]),
        safetensors({"a": 1}),
        safetensors({"a": entry(dtype="O")}),
        safetensors({"a": entry(dtype="F64")} | {"b": entry()}),
        safetensors({"a": entry(shape=(4,))}),
        safetensors({"a": entry(shape=(-3,))}),
        safetensors({"a": entry(shape=(2**62, 2**62))}),
        safetensors({"a": entry(shape=("3",))}),
        safetensors({"a": entry(shape=None)}),
        safetensors({"a": entry(offsets=(8, 32))}),
        safetensors({"a": entry(offsets=(-8, 16))}),
        safetensors({"a": entry(offsets=(0, 2**40))}),
        safetensors({"a": entry(offsets=(0,))}),
        safetensors({"a": entry(offsets=(0.0, 24.0))}),
        safetensors({"a": entry()}, b"\0" * 25),
        safetensors({"__metadata__": {"format": "pt"}, "a": entry()}),
    ],
    ids=range(23),
)
def test_arrays_whose_header_lies_are_refused(store, cache, content):
    key = forged(store, publish(store), lambda _: None, arrays=content)
    assert_refused(store, cache, key, ARRAYS)


def truncated_offsets(content: bytes) -> bytes:
    """Cards whose offsets of titles lead out of the buffer."""
    good = struct.pack("<3i", 0, 10, 18)
    assert content.count(good) == 1
    return content.replace(good, struct.pack("<3i", 0, 10, 2**30))


def test_cards_whose_offsets_lie_are_refused_and_not_read(store, cache):
    ref = publish(store)
    content = stored(store, ref, CARDS).read_bytes()
    for changed in (truncated_offsets(content), content[:64], b"", b"ARROW1\0\0" + b"\xff" * 64):
        key = forged(store, ref, lambda _: None, cards=changed)
        bundle = bundles.load(store, key, cache)  # files are looked into when they are asked for
        with pytest.raises(IncompatibleBundleError, match=r"cards\.arrow") as caught:
            bundle.cards  # noqa: B018
        assert caught.value.fix
        ref = replace(ref, key=key)


@pytest.mark.parametrize("name", [ARRAYS, CARDS, MANIFEST])
def test_link_in_the_place_of_an_object_is_judged_by_its_content(store, cache, tmp_path, name):
    ref = publish(store)
    (tmp_path / "secret").write_text("not for everyone")
    file = stored(store, ref, name)
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    assert_refused(store, cache, ref.key, name)
    assert list(cache.iterdir()) == []


def test_link_in_the_place_of_a_whole_folder_is_judged_by_its_content(store, cache, tmp_path):
    ref, other = publish(store), publish(ObjectStore(tmp_path / "other"), "item_knn")
    folder = (store.root / ref.key).parent
    folder.rename(tmp_path / "away")
    folder.symlink_to((tmp_path / "other" / other.key).parent)
    with pytest.raises(MarqueeError):
        bundles.load(store, ref.key, cache)


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:Popen", "marquee.cli:main", "no.such:Model", "pickle:loads"]
)
def test_model_that_is_no_recommender_is_not_called(store, cache, name):
    ref = publish(store, name)
    with pytest.raises(IncompatibleBundleError, match="not installed"):
        bundles.load(store, ref, cache).recommender()


@pytest.mark.parametrize("name", [ARRAYS, CARDS])
def test_archive_that_gives_something_else_is_refused(tmp_path, cache, name):
    """What is missing here is fetched from the archive, and nothing of it stays."""
    archive, here = ObjectStore(tmp_path / "archive"), tmp_path / "here"
    ref = publish(archive)
    file = stored(archive, ref, name)
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(bytes(content))
    remote = RemoteStore(ObjectSettings(url=f"file://{tmp_path / 'archive'}"))
    with pytest.raises(MarqueeError, match=r"damaged|SHA-256") as caught:
        bundles.load(ObjectStore(here, remote), ref.key, cache)
    assert caught.value.fix
    assert list(cache.iterdir()) == []
    assert not list(here.rglob(f"*.{name}"))


@pytest.mark.integration
async def test_champion_goes_on_serving_while_a_manipulated_one_is_refused(settings, database, tmp_path):
    store = ObjectStore(settings.paths.objects)
    good = publish(store)
    bad = publish(store, "item_knn")
    arrays = stored(store, bad, ARRAYS)
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(bytes(content))

    def deploy(ref: BundleRef) -> None:
        with database.begin() as connection:
            deployments.append(
                connection, "champion", bundle=ref.key, digest=ref.digest, model=ref.model,
                version=ref.version, deployed_by="test", reason="test",
            )  # fmt: skip

    deploy(good)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        services = app.state.services
        assert services.slots.champion().deployment.digest == good.digest
        for refused in (bad, replace(good, digest="0" * 64)):  # changed, and not the one that was deployed
            deploy(refused)
            await services.probe()
            assert services.slots.champion().deployment.digest == good.digest
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                assert (await client.get("/health")).json()["lacks"][-1] == "champion: newest bundle refused"
                answer = await client.get("/v1/popular")
                assert answer.status_code == 200
        deploy(good)
        await services.probe()
        assert services.lacks()[-1:] != ["champion: newest bundle refused"]
    assert {path.name for path in settings.paths.bundles.iterdir() if path.is_dir()} == {
        Path(good.key).name[:64]
    }


def test_digests_are_compared_and_not_trusted_by_name(store, cache):
    """The name of the folder is no proof: what lies there is hashed."""
    ref = publish(store)
    folder = bundles.load(store, ref, cache).folder
    other = np.zeros(3, np.int64).tobytes()
    (folder / ARRAYS).write_bytes(safetensors({"item_ids": entry()}, other))
    os.utime(folder / ARRAYS, (0, 0))
    assert hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() == folder.name
    with pytest.raises(IncompatibleBundleError, match=ARRAYS):
        bundles.load(store, ref, cache)
