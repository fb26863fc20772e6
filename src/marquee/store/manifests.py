"""
Manifests: what a bundle says of itself, and whether that is believed.

A manifest lies at `bundles/<model>/<version>/<its SHA-256>.manifest.json`, holds SHA-256 and size of each
other file, and in `digest` what all of it comes to. Whoever can write to the store can write one, so nothing
of it is used before `parse` has looked at it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from marquee import __version__
from marquee.errors import IncompatibleBundleError
from marquee.store import formats
from marquee.store.formats import ARRAYS, CARDS, MANIFEST

__all__ = ["complete", "digest_of", "encode", "folder_of", "parse", "refusal", "sha256_in"]

_UNDATED = ("created_at", "digest", "version", "curves")  # what the digest leaves out: not what it is


def complete(
    body: Mapping[str, Any], created_at: datetime, curves: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """
    A manifest with its date, digest and version.

    Args:
        body: all that the digest speaks of.
        created_at: in UTC.
        curves: what the training reported, which is not what the bundle is.

    Raises:
        ValueError: something in the body is not JSON-able.
    """
    digest = digest_of(body)
    version = f"{created_at:%Y%m%dT%H%M%S.%fZ}-{digest[:12]}"
    manifest = {**body, "created_at": created_at.isoformat(), "digest": digest, "version": version}
    if curves is not None:
        manifest["curves"] = [dict(curve) for curve in curves]
    return manifest


def digest_of(manifest: Mapping[str, Any]) -> str:
    """
    SHA-256 over the sorted digests of the files, the manifest without its date being one of them.

    The manifest takes part because the meta of a model is in it: two models with equal arrays and
    different configs are different bundles.
    """
    body = {name: value for name, value in manifest.items() if name not in _UNDATED}
    digests = [entry["sha256"] for entry in manifest["files"].values()]
    digests.append(hashlib.sha256(encode(body)).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def encode(value: Mapping[str, Any]) -> bytes:
    """
    JSON with one spelling for one value.

    Raises:
        ValueError: something in it is not JSON-able.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1, default=_plain
    ).encode()


def folder_of(model: str, version: str) -> str:
    """Where a bundle lies in the store."""
    # `package.module:Class` is one name, not a path.
    return f"bundles/{re.sub(r'[^A-Za-z0-9._:-]', '_', model)}/{version}"


def sha256_in(key: str) -> str:
    """
    The SHA-256 that the key of a manifest ends in.

    Raises:
        ValueError: it is the key of something else.
    """
    name = key.rpartition("/")[2]
    if not re.fullmatch(r"[0-9a-f]{64}\.manifest\.json", name):
        raise ValueError(f"{key!r} is not the key of a bundle's manifest")
    return name[:64]


def parse(content: bytes, key: str) -> dict[str, Any]:
    """
    The manifest in a file, of a format that is read here and whole.

    Raises:
        IncompatibleBundleError: it is not what `complete` and `encode` made for this place.
    """
    try:
        manifest: dict[str, Any] = json.loads(content)
        version, readable = manifest["format_version"], formats.readable(manifest)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise refusal(MANIFEST, key, f"it cannot be read ({error})", "Train again.") from error
    if not readable:
        raise refusal(
            MANIFEST,
            key,
            f"it has format version {version}, and Marquee {__version__} reads {formats.FORMAT_VERSION}",
            f"Use Marquee {manifest.get('code_version', 'of the version that wrote it')}, or train again.",
        )
    if (flaw := _flaw(manifest, key)) is not None:
        raise refusal(MANIFEST, key, flaw, "Train again.")
    return manifest


def refusal(file: str, key: str, reason: str, fix: str | None) -> IncompatibleBundleError:
    """The error that names a file of a bundle, and why it is not used."""
    return IncompatibleBundleError(f"{file} of the bundle {key} is refused: {reason}.", fix=fix)


def _flaw(manifest: Mapping[str, Any], key: str) -> str | None:
    """
    Why a manifest is none of `publish`; None where nothing says so.

    Its files are those that we write and no others: a name is never joined to a path before that is certain.
    """
    texts = ("model", "version", "digest", "snapshot", "code_version", "created_at")
    if any(not isinstance(manifest.get(name), str) for name in texts):
        return f"it lacks one of {', '.join(texts)}"
    if not isinstance(manifest.get("meta"), dict):
        return "it lacks the meta of its model"
    files = manifest.get("files")
    if not isinstance(files, dict) or files.keys() != {ARRAYS, CARDS}:
        return f"its files are not {ARRAYS} and {CARDS}"
    for name, entry in files.items():
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("sha256"), str)
            and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
            and type(entry.get("size")) is int
        ):
            return f"it does not say SHA-256 and size of {name}"
    try:
        if digest_of(manifest) != manifest["digest"]:
            return "its digest is not that of its content"
    except ValueError as error:
        return str(error)
    folder = folder_of(manifest["model"], manifest["version"])
    if key.rpartition("/")[0] != folder:
        return f"it is of {manifest['model']}/{manifest['version']}, which lies in {folder}"
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"a manifest cannot hold {value!r}, a {type(value).__name__}: make it JSON-able")
