"""
Retention: what piles up goes when it is older than `MARQUEE_RETENTION__…` says.

Rows go in small parts, files and bundles unless something needs them. What cannot go now, since somebody
holds it or the archive is away, goes the next day: no run fails for it.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from marquee.errors import IncompatibleBundleError, NotFoundError, StoreError
from marquee.pipelines.made_files import is_manifest, made_files, named_in, remove_files
from marquee.pipelines.run import RunContext
from marquee.store import bundles, unpacked
from marquee.store.backups import Vault
from marquee.store.repositories import deployments, retention
from marquee.telemetry import get_logger

__all__ = ["let_go"]

ROWS: Final = 10_000
"""Deleted in one transaction; an erasure may have to wait for it."""
FILES: Final = 1_000
"""Removed with one request."""
KINDS: Final = ("snapshots", "features", "predictions")
LATER: Final = timedelta(days=1)
"""Shadow answers are given a moment after what was shown, which stays so much longer to be there for them."""

Counts = Counter[str]


def let_go(context: RunContext) -> dict[str, int]:
    """
    Remove what is old.

    Returns:
        How much went, by kind, where anything did; `old_days` are whole days of impressions,
        `old_impressions` those among everything else. `old_left`: how much had to stay that should have gone.
    """
    wanted = context.settings.retention
    parts: tuple[tuple[str, int, Callable[[RunContext, timedelta, Counts], None]], ...] = (
        ("answers", wanted.answers_days, _answers),
        ("log lines", wanted.log_days, _log_lines),
        ("files", wanted.files_days, _files),
        ("bundles", wanted.files_days, _bundles),
        ("rankings", wanted.files_days, _rankings),
    )
    counts: Counts = Counter()
    for what, days, part in parts:
        if not days:
            continue
        context.progress(f"let old {what} go")
        try:
            part(context, timedelta(days=days), counts)
        except StoreError as error:
            counts["old_left"] += 1
            get_logger().warning("retention.left", what=what, error=error.message)
    return dict(+counts)


def _answers(context: RunContext, age: timedelta, counts: Counts) -> None:
    with context.database.begin() as connection:
        needed = retention.needed_since(connection)
    before = datetime.now(UTC) - age
    before = min(before, needed or before).replace(hour=0, minute=0, second=0, microsecond=0)
    _rows(context, retention.delete_shadow_answers, before, counts, "old_shadow_answers")
    _days(context, before - LATER, counts)
    _rows(context, retention.delete_impressions, before - LATER, counts, "old_impressions")
    _rows(context, retention.delete_predictions, before, counts, "old_predictions")


def _log_lines(context: RunContext, age: timedelta, counts: Counts) -> None:
    _rows(context, retention.delete_log_lines, datetime.now(UTC) - age, counts, "old_log_lines")


def _days(context: RunContext, before: datetime, counts: Counts) -> None:
    with context.database.begin() as connection:
        days = retention.old_days(connection, before)
    for done, partition in enumerate(days):
        context.progress("let old answers go", done, len(days))
        with context.database.autocommit() as connection:
            dropped = retention.drop_day(connection, partition)
        if not dropped:  # nor would the next one go, and each try holds up who answers
            counts["old_left"] += len(days) - done
            get_logger().warning("retention.days_left", oldest=partition, days=len(days) - done)
            return
        counts["old_days"] += 1


def _rows(
    context: RunContext, delete: Callable[..., int], before: datetime, counts: Counts, name: str
) -> None:
    deleted = ROWS
    while deleted == ROWS:
        context.progress(f"let {name.replace('_', ' ')} go")
        with context.database.begin() as connection:
            deleted = delete(connection, before, rows=ROWS)
        counts[name] += deleted


def _files(context: RunContext, age: timedelta, counts: Counts) -> None:
    """
    Manifests go before what they name, and what a manifest that stays names stays.

    Backups name none of these files: they hold rows, and the bundles of all deployments.
    """
    before = datetime.now(UTC) - age
    vault = Vault(context.objects)
    found = made_files(vault, *KINDS)
    stay = {key for key, since in found.items() if since >= before} | _needed(context, before)
    for kind in KINDS:
        whole = [
            key for key in found if key.startswith(f"{kind}/") and (is_manifest(key) or kind == KINDS[-1])
        ]
        stay.update(sorted(whole, key=lambda key: found[key])[-1:])
    manifests = [key for key in stay & found.keys() if is_manifest(key)]
    while manifests:
        named = (named_in(vault, manifests.pop()) & found.keys()) - stay
        stay |= named
        manifests += filter(is_manifest, named)
    going = sorted(found.keys() - stay, key=lambda key: (not is_manifest(key), key))
    for start in range(0, len(going), FILES):
        context.progress("let old files go", start, len(going))
        part = going[start : start + FILES]
        remove_files(context.database, vault, *part)
        counts["old_files"] += len(part)


def _needed(context: RunContext, since: datetime) -> set[str]:
    """What runs have made or read since then, the features in use, and the data behind what serves."""
    with context.database.begin() as connection:
        needed = retention.needed_files(connection, since)
        deployed = deployments.in_use(connection)
    for key in deployed:
        try:
            needed.add(str(bundles.read_manifest(context.objects, key)["snapshot"]))
        except (NotFoundError, IncompatibleBundleError, ValueError) as error:  # nobody can load it, either
            get_logger().warning("retention.bundle_not_read", bundle=key, error=str(error))
    return needed


def _bundles(context: RunContext, age: timedelta, counts: Counts) -> None:
    with context.database.begin() as connection:
        deployed = deployments.in_use(connection)
    counts["old_bundles"] += unpacked.let_unused_go(context.settings.paths.bundles, deployed, age)


def _rankings(context: RunContext, age: timedelta, counts: Counts) -> None:
    """What is not found any more is ranked again."""
    folder = context.settings.paths.evaluations
    before = (datetime.now(UTC) - age).timestamp()
    try:
        for path in folder.glob("*"):
            if path.stat().st_mtime < before:
                path.unlink()
                counts["old_rankings"] += 1
    except OSError as error:
        raise StoreError(
            f"Old rankings in {folder} cannot be removed: {error.strerror}.", fix="Check who owns them."
        ) from error
