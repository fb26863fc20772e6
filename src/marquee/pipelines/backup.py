"""Backup: write one, and prove that all it needs can be read."""

from typing import Any

from marquee.errors import DamagedObjectError
from marquee.pipelines.retention import let_go
from marquee.pipelines.run import RunContext
from marquee.store.backups import Backup, Vault, Verdict, prune, take_backup, verify
from marquee.telemetry import get_logger

__all__ = ["backup"]


def backup(context: RunContext) -> dict[str, Any]:
    """
    Write a backup, verify it, and let old ones go; then what is old in the system, which the backup has.

    Parameters of the run: `full` — read everything anew; `prune` — false lets nothing go.

    Raises:
        DamagedObjectError: what it needs is damaged and cannot be written anew; it is named.
    """
    made = take_backup(
        context.database,
        context.objects,
        full=bool(context.parameters.get("full")),
        told=context.progress,
    )
    verdict = verify(context.objects, made, told=context.progress)
    if not verdict.whole:
        made, verdict = _mend(context, verdict)
    counts: dict[str, Any] = {
        "backup": made.name,
        "snapshot_at": made.created_at.isoformat(),
        "rows": made.rows,
        "bytes": made.size,
        "objects": verdict.objects,
        "missing": len(made.missing),
    }
    if context.parameters.get("prune", True):
        wanted = context.settings.backup
        pruned = prune(context.database, context.objects, daily=wanted.keep_daily, weekly=wanted.keep_weekly)
        counts["pruned"] = len(pruned.removed)
        counts |= let_go(context)
    return counts


def _mend(context: RunContext, found: Verdict) -> tuple[Backup, Verdict]:
    """Objects of tables that were taken over damaged are written anew: the rows are still here."""
    damaged = [key for key in found.damaged if key.startswith("tables/")]
    get_logger().warning("backup.mending", backup=found.backup, objects=len(damaged))
    Vault(context.objects).remote.delete(*damaged)
    made = take_backup(context.database, context.objects, full=True, told=context.progress)
    verdict = verify(context.objects, made, told=context.progress)
    if not verdict.whole:
        key, reason = next(iter(verdict.damaged.items()))
        raise DamagedObjectError(
            f"The backup {made.name} cannot be restored as a whole: {key}: {reason}",
            fix="See `marquee backup verify`.",
        )
    return made, verdict
