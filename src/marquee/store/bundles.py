"""
Bundles: a fitted model as files that verify, map and travel.

A bundle is `arrays.safetensors` (the arrays of the model, and those of the similar items under `similar/`),
`cards.arrow` (the facts of each item, so that an API needs no database to show, filter and vary) and
`manifest.json` (everything else, and the SHA-256 of the other two). The manifest is stored last: a bundle
without one does not exist. Nothing is pickled.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from marquee import __version__
from marquee.data.dataset import Catalog
from marquee.data.vocabulary import Vocabulary
from marquee.errors import IncompatibleBundleError, NotFoundError, StoreError, StoreUnavailableError
from marquee.models import model_class
from marquee.models.base import ModelState, Recommender
from marquee.recommend.similar import SimilarItems
from marquee.store.arrays import map_arrays, write_arrays
from marquee.store.disk import sha256_of, sync
from marquee.store.objects import ObjectStore
from marquee.store.stamps import once_for

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "BundleRef",
    "find",
    "load",
    "object_keys",
    "publish",
    "published",
    "read_manifest",
]

FORMAT_VERSION = 1

_ARRAYS = "arrays.safetensors"
_CARDS = "cards.arrow"
_MANIFEST = "manifest.json"
_SIMILAR = "similar"  # prefix of the arrays and key of the meta that are not the model's
_UNDATED = ("created_at", "digest", "version", "curves")  # what the digest leaves out: not what it is


@dataclass(frozen=True, slots=True)
class BundleRef:
    """
    A published bundle.

    Attributes:
        key: of its manifest in the object store; it alone finds and verifies the bundle.
        digest: SHA-256 of all that the bundle says, its date apart.
        model: name of the model.
        version: `<UTC time>-<start of the digest>`: sorts by time.
    """

    key: str
    digest: str
    model: str
    version: str


class Bundle:
    """
    A verified bundle on the local disk.

    Attributes:
        ref: which bundle.
        manifest: what `publish` wrote.
        folder: its files.
        arrays: name → array, read-only, mapped from the file and so shared between processes.
    """

    def __init__(self, ref: BundleRef, manifest: dict[str, Any], folder: Path) -> None:
        self.ref = ref
        self.manifest = manifest
        self.folder = folder
        self.arrays = map_arrays(folder / _ARRAYS)

    @cached_property
    def cards(self) -> pa.Table:
        """The facts of each item, mapped: `item_id`, `title` and what else was published."""
        with pa.memory_map(str(self.folder / _CARDS)) as source:
            return pa.ipc.open_file(source).read_all()

    @property
    def state(self) -> ModelState:
        """What the model is made of."""
        meta = {name: value for name, value in self.manifest["meta"].items() if name != _SIMILAR}
        arrays = {name: a for name, a in self.arrays.items() if not name.startswith(f"{_SIMILAR}/")}
        return ModelState(arrays, meta)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def catalog(self) -> Catalog:
        """The facts of the cards, for filters and variety."""
        return Catalog(self.cards)

    def similar(self) -> SimilarItems | None:
        """The similar items of each item, None where they were not published; arrays are not copied."""
        if _SIMILAR not in self.manifest["meta"]:
            return None
        return SimilarItems.from_state(ModelState(self.arrays, self.manifest["meta"]).nested(_SIMILAR))

    def recommender(self) -> Recommender:
        """
        The model, ready to answer; its arrays are not copied.

        Raises:
            IncompatibleBundleError: the model is unknown here.
        """
        try:
            found = model_class(self.ref.model)
        except ValueError as error:
            raise IncompatibleBundleError(
                f"The bundle {self.ref.version} holds a model that is not installed: {error}.",
                fix="Install the package that provides the model.",
            ) from error
        return found.from_state(self.state)


def publish(
    store: ObjectStore,
    state: ModelState,
    *,
    model: str,
    cards: pa.Table,
    metrics: Mapping[str, float],
    snapshot: str,
    code_version: str,
    similar: SimilarItems | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    created_at: datetime | None = None,
) -> BundleRef:
    """
    Store a fitted model as a bundle: visible once complete, never before.

    Args:
        store: where.
        state: of the fitted model.
        model: the name by which `marquee.models.model_class` finds the class.
        cards: one row per item with `item_id`, `title` and what else of `schema.ITEMS` is known: what
            answers show and filters ask.
        metrics: what was measured; non-finite values become null.
        snapshot: id of the data it was trained on.
        code_version: version of Marquee, with the commit where known.
        similar: the similar items of each item.
        curves: what the training reported as it went on; see `marquee.pipelines.curves`.
        created_at: the bundle's date; default: now.

    Raises:
        ValueError: cards lack a column, `meta` is not JSON-able, an array has a dtype that safetensors
            does not know, or the model uses the names of the similar items.
    """
    state = _joined(state, similar)
    missing = [name for name in ("item_id", "title") if name not in cards.column_names]
    if missing:
        raise ValueError(f"the cards lack the columns {missing}")
    moment = (created_at or datetime.now(UTC)).astimezone(UTC)
    with tempfile.TemporaryDirectory(prefix="marquee-bundle-") as name:
        folder = Path(name)
        write_arrays(state.arrays, folder / _ARRAYS)
        _write_cards(cards, folder / _CARDS)
        body = {
            "format_version": FORMAT_VERSION,
            "model": model,
            "meta": state.meta,
            "vocabularies": {
                name: Vocabulary(ids).digest()
                for name, ids in sorted(state.arrays.items())
                if name.rpartition("/")[2] == "item_ids"
            },
            "metrics": {name: _finite(value) for name, value in metrics.items()},
            "snapshot": snapshot,
            "code_version": code_version,
            "files": {
                name: {"sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size}
                for name in (_ARRAYS, _CARDS)
            },
        }
        digest = _digest(body)
        version = f"{moment:%Y%m%dT%H%M%S.%fZ}-{digest[:12]}"
        manifest = {**body, "created_at": moment.isoformat(), "digest": digest, "version": version}
        if curves is not None:
            manifest["curves"] = [dict(curve) for curve in curves]
        encoded = _canonical(manifest)
        prefix = f"bundles/{_slug(model)}/{version}"
        for name in (_ARRAYS, _CARDS):
            store.put(prefix, folder / name, f".{name}")
        key = store.put(prefix, encoded, f".{_MANIFEST}").key
    return BundleRef(key, digest, model, version)


def published(store: ObjectStore, model: str | None = None) -> Sequence[BundleRef]:
    """The bundles of a model, or of all, oldest first."""
    prefix = "bundles" if model is None else f"bundles/{_slug(model)}"
    refs = [find(store, ref.key) for ref in store.list(prefix) if ref.key.endswith(f".{_MANIFEST}")]
    return sorted(refs, key=lambda ref: ref.version)


def find(store: ObjectStore, key: str) -> BundleRef:
    """The bundle whose manifest has this key; raises like `read_manifest`."""
    return _ref(key, read_manifest(store, key))


def read_manifest(store: ObjectStore, key: str) -> dict[str, Any]:
    """
    What a bundle says of itself, without its files.

    Raises:
        NotFoundError: no such bundle.
        IncompatibleBundleError: the manifest does not verify or is of another format version.
    """
    return _parse(_read_manifest(store, key), key)


def object_keys(store: ObjectStore, key: str) -> list[str]:
    """The objects of a bundle, the manifest last; raises like `read_manifest`."""
    prefix = key.rpartition("/")[0]
    files = read_manifest(store, key)["files"]
    return [*(f"{prefix}/{entry['sha256']}.{name}" for name, entry in files.items()), key]


def load(store: ObjectStore, ref: BundleRef | str, cache: Path) -> Bundle:
    """
    Unpack a bundle, unless it is already, and verify every file of it.

    What was verified here and has not been touched since, as the system's notes of its files say, is not
    read again.

    Args:
        store: where it was published; not asked when the bundle is unpacked already.
        ref: the bundle, or the key of its manifest.
        cache: folder of unpacked bundles (`settings.paths.bundles`), shared between processes.

    Raises:
        NotFoundError: no such bundle.
        IncompatibleBundleError: naming the file and the reason.
    """
    key = ref if isinstance(ref, str) else ref.key
    expected = _manifest_digest(key)
    folder = cache / expected
    if not folder.is_dir():
        _unpack(store, key, folder)
    fix = f"Delete the folder {folder}; it is unpacked again from the object store."
    manifest = _verify(folder, key, fix, cache / f"{expected}.verified")
    found = _ref(key, manifest)
    if isinstance(ref, BundleRef) and ref != found:
        raise IncompatibleBundleError(
            f"{_MANIFEST} of the bundle {key} is refused: it is of {found}, not of {ref}.",
            fix="Deploy the bundle by the reference that `publish` gave.",
        )
    return Bundle(found, manifest, folder)


def _joined(state: ModelState, similar: SimilarItems | None) -> ModelState:
    taken = [name for name in (*state.arrays, *state.meta) if f"{name}/".startswith(f"{_SIMILAR}/")]
    if taken:
        raise ValueError(f"the model's state must not use the name {min(taken)!r}: it is for similar items")
    if similar is None:
        return state
    part = similar.state()
    arrays = {f"{_SIMILAR}/{name}": array for name, array in part.arrays.items()}
    return ModelState({**state.arrays, **arrays}, {**state.meta, _SIMILAR: part.meta})


def _unpack(store: ObjectStore, key: str, folder: Path) -> None:
    """Copy a bundle out of the store; of several processes one does it and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_by_a_killed_process in folder.parent.glob(".unpack-*"):
            shutil.rmtree(left_by_a_killed_process)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder.parent) as temporary:
                made = Path(temporary, "bundle")
                made.mkdir()
                _copy_out(store, key, made)
                _verify(made, key, "Restore the object from a backup, or train again.")
                for path in (*made.iterdir(), made):
                    sync(path)
                made.rename(folder)
            os.fsync(lock)
    finally:
        os.close(lock)


def _copy_out(store: ObjectStore, key: str, folder: Path) -> None:
    prefix, _, manifest_name = key.rpartition("/")
    content = _read_manifest(store, key)
    (folder / _MANIFEST).write_bytes(content)
    files: dict[str, dict[str, Any]] = _parse(content, key)["files"]
    stored = {f"{entry['sha256']}.{name}": name for name, entry in files.items()}
    extra = {ref.key.rpartition("/")[2] for ref in store.list(prefix)} - stored.keys() - {manifest_name}
    if extra:
        raise _refusal(min(extra), key, "the manifest does not name it", f"Remove it from {prefix}.")
    for stored_name, name in stored.items():
        try:
            source = store.local_path(f"{prefix}/{stored_name}", verify=False)
        except NotFoundError as error:
            raise _refusal(name, key, "it is missing in the object store", error.fix) from error
        shutil.copyfile(source, folder / name)


def _verify(folder: Path, key: str, fix: str, stamp: Path | None = None) -> dict[str, Any]:
    """
    The manifest of an unpacked bundle, once every file has proved to be what was published.

    Args:
        stamp: the note that it was seen of these very files before; the manifest is read each time.
    """
    present = {path.name for path in folder.iterdir()}
    if _MANIFEST not in present:
        raise _refusal(_MANIFEST, key, "it is missing", fix)
    content = (folder / _MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != _manifest_digest(key):
        raise _refusal(_MANIFEST, key, "its SHA-256 is not the one in the key", fix)
    manifest = _parse(content, key)
    files: dict[str, dict[str, Any]] = manifest["files"]
    if extra := present - files.keys() - {_MANIFEST}:
        raise _refusal(min(extra), key, "the manifest does not name it", fix)
    for name, entry in files.items():
        if name not in present:
            raise _refusal(name, key, "it is missing", fix)
        size = (folder / name).stat().st_size
        if size != entry["size"]:
            raise _refusal(name, key, f"it has {size} bytes instead of {entry['size']}", fix)

    def verify_content() -> None:
        for name, entry in files.items():
            if sha256_of(folder / name) != entry["sha256"]:
                raise _refusal(name, key, "its SHA-256 is not the one in the manifest", fix)

    if stamp is None:
        verify_content()
    else:
        once_for(stamp, [folder / name for name in files], verify_content)
    return manifest


def _read_manifest(store: ObjectStore, key: str) -> bytes:
    try:
        return store.get(key)
    except StoreUnavailableError:
        raise  # nothing is known of the bundle
    except StoreError as error:
        raise _refusal(_MANIFEST, key, error.message, error.fix) from error


def _parse(content: bytes, key: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise _refusal(_MANIFEST, key, f"it cannot be read ({error})", "Train again.") from error
    if version != FORMAT_VERSION:
        raise _refusal(
            _MANIFEST,
            key,
            f"it has format version {version}, and Marquee {__version__} reads {FORMAT_VERSION}",
            f"Use Marquee {manifest.get('code_version', 'of the version that wrote it')}, or train again.",
        )
    if _digest(manifest) != manifest["digest"]:
        raise _refusal(_MANIFEST, key, "its digest is not that of its content", "Train again.")
    return manifest


def _ref(key: str, manifest: Mapping[str, Any]) -> BundleRef:
    return BundleRef(key, manifest["digest"], manifest["model"], manifest["version"])


def _manifest_digest(key: str) -> str:
    name = key.rpartition("/")[2]
    if not re.fullmatch(r"[0-9a-f]{64}\.manifest\.json", name):
        raise ValueError(f"{key!r} is not the key of a bundle's manifest")
    return name[:64]


def _digest(manifest: Mapping[str, Any]) -> str:
    """
    SHA-256 over the sorted digests of the files, the manifest without its date being one of them.

    The manifest takes part because the meta of a model is in it: two models with equal arrays and
    different configs are different bundles.
    """
    body = {name: value for name, value in manifest.items() if name not in _UNDATED}
    digests = [entry["sha256"] for entry in manifest["files"].values()]
    digests.append(hashlib.sha256(_canonical(body)).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _canonical(value: Any) -> bytes:
    """JSON with one spelling for one value."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1, default=_plain
    ).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"a manifest cannot hold {value!r}, a {type(value).__name__}: make it JSON-able")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _write_cards(cards: pa.Table, path: Path) -> None:
    table = cards.replace_schema_metadata(None).combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _slug(model: str) -> str:
    """A model's name as a folder: `package.module:Class` is one name, not a path."""
    return re.sub(r"[^A-Za-z0-9._:-]", "_", model)


def _refusal(file: str, key: str, reason: str, fix: str | None) -> IncompatibleBundleError:
    return IncompatibleBundleError(f"{file} of the bundle {key} is refused: {reason}.", fix=fix)
