"""
What serves: the append-only log of deployments, by slot.

A slot is emptied by a row without a bundle. All API processes hear of each row when it is committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Select, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from marquee.store.notify import notify
from marquee.store.tables import deployments

__all__ = ["Deployment", "Slot", "append", "clear", "current", "current_all", "history", "of_run", "previous"]

Slot = Literal["predictor", "champion", "challenger", "shadow"]


@dataclass(frozen=True)
class Deployment:
    """
    One bundle put in a slot.

    Attributes:
        bundle: key of the bundle in the object store.
        digest: its SHA-256, hexadecimal.
        version: of the model in the tracker, where it is tracked.
        gate_report: the comparison that let it pass, None where there was no gate.
        run_id: the pipeline run that put it there, None where a person did.
    """

    deployment_id: int
    slot: Slot
    bundle: str
    digest: str
    model: str
    version: str | None
    deployed_by: str
    reason: str
    gate_report: dict[str, Any] | None
    run_id: UUID | None
    created_at: datetime


def append(
    connection: Connection,
    slot: Slot,
    *,
    bundle: str,
    digest: str,
    model: str,
    deployed_by: str,
    reason: str,
    version: str | None = None,
    gate_report: Mapping[str, Any] | None = None,
    run_id: UUID | None = None,
) -> Deployment:
    """Put a bundle in a slot; a run may do so once per slot."""
    notify(connection, "marquee_deployments", slot)
    row = connection.execute(
        insert(deployments)
        .values(
            slot=slot,
            bundle=bundle,
            digest=digest,
            model=model,
            version=version,
            deployed_by=deployed_by,
            reason=reason,
            gate_report=None if gate_report is None else dict(gate_report),
            run_id=run_id,
        )
        .returning(*deployments.c)
    ).one()
    return Deployment(**row._mapping)


def clear(connection: Connection, slot: Slot, *, deployed_by: str, reason: str) -> None:
    """Empty a slot."""
    append(connection, slot, bundle="", digest="", model="", deployed_by=deployed_by, reason=reason)


def current(connection: Connection, slot: Slot) -> Deployment | None:
    """The newest deployment of a slot, None where nothing is."""
    row = connection.execute(_newest_first(slot).limit(1)).one_or_none()
    return None if row is None or not row.bundle else Deployment(**row._mapping)


def current_all(connection: Connection) -> dict[str, Deployment]:
    """The newest deployment of each slot that is not empty."""
    query = (
        select(deployments)
        .ext(distinct_on(deployments.c.slot))
        .order_by(deployments.c.slot, deployments.c.deployment_id.desc())
    )
    return {row.slot: Deployment(**row._mapping) for row in connection.execute(query) if row.bundle}


def of_run(connection: Connection, run_id: UUID) -> list[Deployment]:
    """What a pipeline run has deployed."""
    query = select(deployments).where(deployments.c.run_id == run_id).order_by(deployments.c.deployment_id)
    return [Deployment(**row._mapping) for row in connection.execute(query)]


def previous(connection: Connection, slot: Slot) -> Deployment | None:
    """The newest deployment of a slot whose bundle is not the current one: the goal of a rollback."""
    now = current(connection, slot)
    if now is None:
        return None
    query = _newest_first(slot).where(deployments.c.digest.not_in([now.digest, ""])).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Deployment(**row._mapping)


def history(connection: Connection, slot: Slot, *, limit: int = 20) -> list[Deployment]:
    """The deployments of a slot, newest first."""
    return [Deployment(**row._mapping) for row in connection.execute(_newest_first(slot).limit(limit))]


def _newest_first(slot: Slot) -> Select[Any]:
    return select(deployments).where(deployments.c.slot == slot).order_by(deployments.c.deployment_id.desc())
