"""
What serves: the append-only log of deployments, by slot.

A slot is emptied by a row without a bundle. All API processes hear of each row when it is committed.

The report of a row says how it came about. Its `verdict` is `passed`, `refused`, `waiting` or `forced` where
the gate was asked: refusals and what waits for an operator are rows of the slot `challenger`, the other two
of `champion`. A rollback's is `rolled_back`, with `of` as the id of the deployment that is back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Select, insert, or_, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from marquee.errors import NoChampionError, NotFoundError, RegistryError
from marquee.store.notify import notify
from marquee.store.repositories import experiments
from marquee.store.tables import deployments

__all__ = [
    "Deployment",
    "Slot",
    "append",
    "approve",
    "clear",
    "current",
    "current_all",
    "every",
    "hold",
    "in_use",
    "of_run",
    "of_version",
    "previous",
    "roll_back",
    "with_digest",
]

Slot = Literal["predictor", "champion", "challenger", "shadow"]


@dataclass(frozen=True)
class Deployment:
    """
    One bundle put in a slot.

    Attributes:
        bundle: key of the bundle in the object store.
        digest: its SHA-256, hexadecimal.
        version: of the model in the tracker, where it is tracked.
        gate_report: how it came about, None where there was no gate; see the module.
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

    @property
    def verdict(self) -> str | None:
        """The verdict of its report."""
        return None if self.gate_report is None else self.gate_report.get("verdict")


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
    """
    Put a bundle in a slot; a run may do so once per slot.

    Another champion ends the experiment that runs, whose arms would keep it from users.
    """
    if slot == "champion":
        now = current(connection, slot)
        if now is None or now.digest != digest:
            experiments.end_running(connection, reason=f"the champion changed: {reason}")
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


def in_use(connection: Connection) -> set[str]:
    """The keys of the bundles that a slot has, or an arm of the experiment that runs."""
    experiment = experiments.running(connection)
    arms = () if experiment is None else experiment.arms
    return {one.bundle for one in current_all(connection).values()} | {arm.bundle for arm in arms}


def of_run(connection: Connection, run_id: UUID) -> list[Deployment]:
    """What a pipeline run has deployed."""
    query = select(deployments).where(deployments.c.run_id == run_id).order_by(deployments.c.deployment_id)
    return [Deployment(**row._mapping) for row in connection.execute(query)]


def of_version(connection: Connection, version: str) -> Deployment:
    """
    The newest deployment of a version, in whatever slot.

    Args:
        version: as `publish` named it, with or without the model before it (`ease/2026…`), or the key of
            its bundle.

    Raises:
        NotFoundError: no such version.
    """
    wanted = version.rpartition("/")[2]
    query = (
        select(deployments)
        .where(or_(deployments.c.version == wanted, deployments.c.bundle == version))
        .order_by(deployments.c.deployment_id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None or not wanted:
        raise NotFoundError(f"There is no version {version!r}.", fix="`marquee models` lists the versions.")
    return Deployment(**row._mapping)


def with_digest(connection: Connection, digest: str) -> list[Deployment]:
    """All deployments of a bundle, newest first."""
    query = select(deployments).where(deployments.c.digest == digest)
    query = query.order_by(deployments.c.deployment_id.desc())
    return [Deployment(**row._mapping) for row in connection.execute(query)]


def every(connection: Connection) -> list[Deployment]:
    """All deployments of bundles, newest first."""
    query = select(deployments).where(deployments.c.bundle != "")
    query = query.order_by(deployments.c.deployment_id.desc())
    return [Deployment(**row._mapping) for row in connection.execute(query)]


def previous(connection: Connection, slot: Slot) -> Deployment | None:
    """
    The goal of a rollback: what served before the current bundle came to serve.

    A rollback counts as the deployment that it brought back, so that one after the other goes ever further
    back, and never to what was rolled back.
    """
    now = current(connection, slot)
    if now is None:
        return None
    query = (
        _newest_first(slot)
        .where(deployments.c.deployment_id < _origin(now), deployments.c.digest.not_in([now.digest, ""]))
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Deployment(**row._mapping)


def roll_back(connection: Connection, slot: Slot, *, deployed_by: str, reason: str) -> Deployment:
    """
    Put back what served before.

    Raises:
        NoChampionError: nothing serves in the slot.
        RegistryError: nothing has served there before.
    """
    hold(connection)
    now, goal = current(connection, slot), previous(connection, slot)
    if now is None:
        raise NoChampionError(f"The slot {slot!r} is empty.", fix="Run: marquee promote")
    if goal is None:
        raise RegistryError(
            f"Nothing has served as {slot!r} before {now.model}/{now.version}.",
            fix="`marquee models` lists what could be promoted.",
        )
    return append(
        connection,
        slot,
        bundle=goal.bundle,
        digest=goal.digest,
        model=goal.model,
        version=goal.version,
        deployed_by=deployed_by,
        reason=reason,
        gate_report={"verdict": "rolled_back", "of": _origin(goal), "from": now.version},
    )


def approve(
    connection: Connection, *, deployed_by: str, reason: str, version: str | None = None
) -> Deployment:
    """
    Make the version champion that passed the gate and waits.

    Args:
        version: which; default: the newest that waits.

    Raises:
        NotFoundError: nothing waits.
        RegistryError: the champion is not the one that it was compared with any more.
    """
    hold(connection)
    found = _waiting(connection, version)
    if found is None:
        raise NotFoundError(
            f"The version {version} does not wait for approval."
            if version
            else "No version waits for approval.",
            fix="`marquee models` lists the versions and what the gate said.",
        )
    now = current(connection, "champion")
    report = dict(found.gate_report or {})
    if report.get("champion", {}).get("digest") != (now.digest if now is not None else None):
        raise RegistryError(
            f"The champion has changed since {found.model}/{found.version} was compared with it.",
            fix=f"Run: marquee promote {found.version} --require-approval",
        )
    return append(
        connection,
        "champion",
        bundle=found.bundle,
        digest=found.digest,
        model=found.model,
        version=found.version,
        deployed_by=deployed_by,
        reason=reason,
        gate_report={**report, "verdict": "passed", "approved_by": deployed_by},
    )


def hold(connection: Connection) -> None:
    """Let nobody else deploy until this transaction ends; readers are not held up."""
    connection.execute(text("LOCK TABLE deployments IN SHARE ROW EXCLUSIVE MODE"))


def _waiting(connection: Connection, version: str | None) -> Deployment | None:
    """The newest row of a bundle that was judged, if the verdict was that it waits."""
    judged = deployments.c.gate_report["verdict"].astext.in_(["passed", "refused", "waiting", "forced"])
    query = (
        select(deployments)
        .ext(distinct_on(deployments.c.digest))
        .where(deployments.c.slot.in_(["champion", "challenger"]), judged)
        .order_by(deployments.c.digest, deployments.c.deployment_id.desc())
    )
    if version is not None:
        query = query.where(deployments.c.version == version.rpartition("/")[2])
    newest = [Deployment(**row._mapping) for row in connection.execute(query)]
    waiting = [one for one in newest if one.verdict == "waiting"]
    return max(waiting, key=lambda one: one.deployment_id, default=None)


def _origin(deployment: Deployment) -> int:
    """The id of the deployment that a rollback brought back; any other's own."""
    if deployment.verdict == "rolled_back" and deployment.gate_report is not None:
        return int(deployment.gate_report["of"])
    return deployment.deployment_id


def _newest_first(slot: Slot) -> Select[Any]:
    return select(deployments).where(deployments.c.slot == slot).order_by(deployments.c.deployment_id.desc())
