"""
Files made of the data: snapshots, features and batch predictions, wherever they lie.

A snapshot, and the features of a moment, are several files and a manifest that names them; other manifests
may name the same ones.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from marquee.errors import DamagedObjectError, NotFoundError
from marquee.store.backups import Vault
from marquee.store.postgres import Database
from marquee.store.repositories import outbox
from marquee.telemetry import get_logger

__all__ = ["is_manifest", "made_files", "named_in", "remove_files"]


def made_files(vault: Vault, *prefixes: str) -> dict[str, datetime]:
    """Keys of files of the archive and of the object directory → since when they are there."""
    found = {}
    for prefix in prefixes:
        for item in vault.remote.list(prefix):
            found[item.key] = item.modified
        for ref in vault.objects.list(prefix):
            modified = (vault.objects.root / ref.key).stat().st_mtime
            found.setdefault(ref.key, datetime.fromtimestamp(modified, UTC))
    return found


def is_manifest(key: str) -> bool:
    """Whether a key of `made_files` is that of a manifest."""
    return key.count("/") == 1 and key.endswith(".json")


def named_in(vault: Vault, manifest: str) -> set[str]:
    """What a manifest names, the keys of its files among it; nothing where it is missing or damaged."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="marquee-manifest-") as folder,
            vault.fetched(manifest, Path(folder)) as path,
        ):
            content = json.loads(path.read_bytes())
    except (DamagedObjectError, NotFoundError) as error:
        get_logger().warning("files.manifest_not_read", key=manifest, error=error.message)
        return set()
    return {value for value in content.values() if isinstance(value, str)}


def remove_files(database: Database, vault: Vault, *keys: str) -> None:
    """Remove files from the archive and from the object directory."""
    with database.begin() as connection:
        outbox.drop(connection, keys)
    vault.remote.delete(*keys)
    for key in keys:
        (vault.objects.root / key).unlink(missing_ok=True)
