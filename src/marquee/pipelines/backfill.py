"""Backfill: what came in as files between two moments, loaded again, and a snapshot of it."""

from datetime import UTC, datetime
from typing import Any

from marquee.pipelines.replay import replay
from marquee.pipelines.run import RunContext
from marquee.pipelines.snapshots import take_snapshot

__all__ = ["backfill"]


def backfill(context: RunContext) -> dict[str, Any]:
    """
    Load raw files again; what is there already adds nothing, so that twice is the same as once.

    Parameters of the run: `after`, `until` — moments in ISO format.

    Returns:
        `files` and new `rows`; `skipped`: key → why a file was not loaded; the `snapshot` of it all.
    """
    after, until = (_moment(str(context.parameters[name])) for name in ("after", "until"))
    loaded, skipped = replay(
        context.settings, context.database, context.objects, after, until, context.progress
    )
    context.progress("take snapshot", 0, 1)
    snapshot = take_snapshot(context.database, context.objects)
    return {
        "files": len(loaded),
        "rows": sum(loaded.values()),
        "skipped": skipped,
        "items": len(snapshot.catalog),
        "interactions": len(snapshot.interactions),
        "snapshot": snapshot.key,
    }


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
