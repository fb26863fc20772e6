"""
Formats of bundles: which ones this Marquee reads, and how older ones become the present one.

A published bundle is never changed, so that the release that wrote it finds it again after a rollback. What
is of an older format is converted where it is unpacked, beside the original, once that has been verified;
`marquee upgrade` does so ahead of the next start. A release that brings a new format reads it one release
before any writes it, or lets it name the oldest format whose readers can do with it in `minimum_reader`.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from numpy.typing import NDArray

from marquee.store.arrays import map_arrays, write_arrays
from marquee.store.disk import sha256_of, sync
from marquee.store.stamps import once_for
from marquee.telemetry import get_logger

__all__ = [
    "ARRAYS",
    "CARDS",
    "CONVERTERS",
    "MANIFEST",
    "Contents",
    "Converter",
    "converted",
    "readable",
    "write_files",
]

FORMAT_VERSION = 1

ARRAYS: Final = "arrays.safetensors"
CARDS: Final = "cards.arrow"
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Contents:
    """
    What is in a bundle.

    Attributes:
        manifest: without what is said of the files, which is written anew.
        arrays: of the model, and those of the similar items.
        cards: the facts of each item.
    """

    manifest: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    cards: pa.Table


Converter = Callable[[Contents], Contents]

CONVERTERS: Final[dict[int, Converter]] = {}
"""By format: what makes the next one of it. Format 1 is the first and, until now, the only one."""


def readable(manifest: Mapping[str, Any]) -> bool:
    """Whether a format is the present one, can be converted to it, or only adds to it."""
    version = manifest["format_version"]
    if type(version) is not int:
        return False
    if version > FORMAT_VERSION:
        oldest = manifest.get("minimum_reader", version)
        return type(oldest) is int and oldest <= FORMAT_VERSION
    return all(step in CONVERTERS for step in range(version, FORMAT_VERSION))


def converted(folder: Path, manifest: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """
    A bundle in the present format, made beside the unpacked one unless it is there.

    Args:
        folder: of the unpacked bundle, which has been verified.
        manifest: its own, of a format that is `readable`.

    Returns:
        The folder and the manifest to use: those given, where they need no conversion.
    """
    if manifest["format_version"] >= FORMAT_VERSION:
        return folder, manifest
    target = folder.with_name(f"{folder.name}.format-{FORMAT_VERSION}")
    found = _whole(target)
    if found is None:
        _make(folder, manifest, target)
        found = _whole(target)
        assert found is not None
    return target, found


def write_files(
    folder: Path, arrays: Mapping[str, NDArray[Any]], cards: pa.Table
) -> dict[str, dict[str, Any]]:
    """
    Write the files of a bundle but for its manifest.

    Returns:
        What the manifest says of them: name → `sha256` and `size`.

    Raises:
        ValueError: an array has a dtype that safetensors does not know.
    """
    write_arrays(arrays, folder / ARRAYS)
    table = cards.replace_schema_metadata(None).combine_chunks()
    with pa.OSFile(str(folder / CARDS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return {
        name: {"sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size}
        for name in (ARRAYS, CARDS)
    }


def _make(folder: Path, manifest: dict[str, Any], target: Path) -> None:
    """Convert; of several processes one does it and the others wait."""
    lock = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _whole(target) is not None:
            return
        shutil.rmtree(target, ignore_errors=True)
        contents = _converted(folder, manifest)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder.parent) as temporary:
            made = Path(temporary, "bundle")
            made.mkdir()
            files = write_files(made, contents.arrays, contents.cards)
            (made / MANIFEST).write_text(json.dumps({**contents.manifest, "files": files}), "utf-8")
            for path in (*made.iterdir(), made):
                sync(path)
            made.rename(target)
        os.fsync(lock)
        get_logger().info(
            "bundle.converted",
            bundle=manifest["version"],
            before=manifest["format_version"],
            after=FORMAT_VERSION,
        )
    finally:
        os.close(lock)


def _converted(folder: Path, manifest: dict[str, Any]) -> Contents:
    with pa.memory_map(str(folder / CARDS)) as source:
        contents = Contents(manifest, map_arrays(folder / ARRAYS), pa.ipc.open_file(source).read_all())
    for version in range(manifest["format_version"], FORMAT_VERSION):
        contents = CONVERTERS[version](contents)
        contents = replace(contents, manifest={**contents.manifest, "format_version": version + 1})
    return contents


def _whole(folder: Path) -> dict[str, Any] | None:
    """The manifest of a converted bundle, None where it is not there or not what was written."""

    def verify() -> None:
        for name, entry in manifest["files"].items():
            if sha256_of(folder / name) != entry["sha256"]:
                raise ValueError(name)

    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        once_for(folder.with_name(f"{folder.name}.verified"), [folder / ARRAYS, folder / CARDS], verify)
    except (OSError, ValueError, KeyError):
        return None
    return manifest
