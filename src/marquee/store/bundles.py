"""
Bundles: a fitted model as files that verify, map and travel.

A bundle is `arrays.safetensors` (the arrays of the model, and those of the similar items under `similar/`),
`cards.arrow` (the facts of each item, so that an API needs no database to show, filter and vary) and
`manifest.json` (everything else, and the SHA-256 of the other two). The manifest is stored last: a bundle
without one does not exist. Nothing is pickled.
"""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from marquee.data.dataset import Catalog
from marquee.data.vocabulary import Vocabulary
from marquee.errors import IncompatibleBundleError, NotFoundError, StoreError, StoreUnavailableError
from marquee.models import model_class
from marquee.models.base import ModelState, Recommender
from marquee.recommend.similar import SimilarItems
from marquee.store import formats, manifests, unpacked
from marquee.store.arrays import map_arrays
from marquee.store.disk import sha256_of, sync
from marquee.store.formats import ARRAYS as _ARRAYS
from marquee.store.formats import CARDS as _CARDS
from marquee.store.formats import MANIFEST as _MANIFEST
from marquee.store.objects import ObjectStore
from marquee.store.stamps import once_for

__all__ = [
    "Bundle",
    "BundleRef",
    "load",
    "object_keys",
    "publish",
    "read_manifest",
]

_SIMILAR = "similar"  # prefix of the arrays and key of the meta that are not the model's


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
        try:
            self.arrays = map_arrays(folder / _ARRAYS)
        except ValueError as error:
            raise manifests.refusal(_ARRAYS, ref.key, str(error), "Train again.") from error

    @cached_property
    def cards(self) -> pa.Table:
        """
        The facts of each item, mapped: `item_id`, `title` and what else was published.

        Raises:
            IncompatibleBundleError: what the file says of itself is not so.
        """
        try:
            with pa.memory_map(str(self.folder / _CARDS)) as source:
                table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)  # Arrow itself believes the offsets in a file
        except (pa.ArrowException, OSError) as error:
            reason = f"it is not a table: {str(error).partition(chr(10))[0]}"
            raise manifests.refusal(_CARDS, self.ref.key, reason, "Train again.") from error
        return table

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
        files = formats.write_files(folder, state.arrays, cards)
        body = {
            "format_version": formats.FORMAT_VERSION,
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
            "files": files,
        }
        manifest = manifests.complete(body, moment, curves)
        encoded = manifests.encode(manifest)
        prefix = manifests.folder_of(model, manifest["version"])
        for name in files:
            store.put(prefix, folder / name, f".{name}")
        key = store.put(prefix, encoded, f".{_MANIFEST}").key
    return _ref(key, manifest)


def read_manifest(store: ObjectStore, key: str) -> dict[str, Any]:
    """
    What a bundle says of itself, without its files.

    Raises:
        NotFoundError: no such bundle.
        IncompatibleBundleError: the manifest does not verify or is of another format version.
    """
    return manifests.parse(_read_manifest(store, key), key)


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
    expected = manifests.sha256_in(key)
    folder = cache / expected
    while not unpacked.use(folder):  # again where somebody has removed it meanwhile
        _unpack(store, key, folder)
    fix = f"Delete the folder {folder}; it is unpacked again from the object store."
    manifest = _verify(folder, key, fix, cache / f"{expected}.verified")
    found = _ref(key, manifest)
    if isinstance(ref, BundleRef) and ref != found:
        raise IncompatibleBundleError(
            f"{_MANIFEST} of the bundle {key} is refused: it is of {found}, not of {ref}.",
            fix="Deploy the bundle by the reference that `publish` gave.",
        )
    folder, manifest = formats.converted(folder, manifest)
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
    with unpacked.alone(folder.parent) as cache:
        if folder.is_dir():
            return
        with tempfile.TemporaryDirectory(prefix=unpacked.STAGING, dir=folder.parent) as temporary:
            made = Path(temporary, "bundle")
            made.mkdir()
            _copy_out(store, key, made)
            _verify(made, key, "Restore the object from a backup, or train again.")
            for path in (*made.iterdir(), made):
                sync(path)
            made.rename(folder)
        os.fsync(cache)


def _copy_out(store: ObjectStore, key: str, folder: Path) -> None:
    prefix, _, manifest_name = key.rpartition("/")
    content = _read_manifest(store, key)
    (folder / _MANIFEST).write_bytes(content)
    files: dict[str, dict[str, Any]] = manifests.parse(content, key)["files"]
    stored = {f"{entry['sha256']}.{name}": name for name, entry in files.items()}
    extra = {ref.key.rpartition("/")[2] for ref in store.list(prefix)} - stored.keys() - {manifest_name}
    if extra:
        raise manifests.refusal(min(extra), key, "the manifest does not name it", f"Remove it from {prefix}.")
    for stored_name, name in stored.items():
        try:
            source = store.local_path(f"{prefix}/{stored_name}", verify=False)
        except NotFoundError as error:
            raise manifests.refusal(name, key, "it is missing in the object store", error.fix) from error
        shutil.copyfile(source, folder / name)


def _verify(folder: Path, key: str, fix: str, stamp: Path | None = None) -> dict[str, Any]:
    """
    The manifest of an unpacked bundle, once every file has proved to be what was published.

    Args:
        stamp: the note that it was seen of these very files before; the manifest is read each time.
    """
    present = {path.name for path in folder.iterdir()}
    if _MANIFEST not in present:
        raise manifests.refusal(_MANIFEST, key, "it is missing", fix)
    content = (folder / _MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifests.sha256_in(key):
        raise manifests.refusal(_MANIFEST, key, "its SHA-256 is not the one in the key", fix)
    manifest = manifests.parse(content, key)
    files: dict[str, dict[str, Any]] = manifest["files"]
    if extra := present - files.keys() - {_MANIFEST}:
        raise manifests.refusal(min(extra), key, "the manifest does not name it", fix)
    for name, entry in files.items():
        if name not in present:
            raise manifests.refusal(name, key, "it is missing", fix)
        size = (folder / name).stat().st_size
        if size != entry["size"]:
            raise manifests.refusal(name, key, f"it has {size} bytes instead of {entry['size']}", fix)

    def verify_content() -> None:
        for name, entry in files.items():
            if sha256_of(folder / name) != entry["sha256"]:
                raise manifests.refusal(name, key, "its SHA-256 is not the one in the manifest", fix)

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
        raise manifests.refusal(_MANIFEST, key, error.message, error.fix) from error


def _ref(key: str, manifest: Mapping[str, Any]) -> BundleRef:
    return BundleRef(key, manifest["digest"], manifest["model"], manifest["version"])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
