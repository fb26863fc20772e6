"""
Online experiments: at most one runs, and each user stays in one arm of it.

A user's arm is a hash of the experiment's salt and the user's id, so that every process finds the same one
without asking, and no experiment sorts users as another did. All API processes hear of each change when it
is committed.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from math import isclose
from secrets import token_hex
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from marquee.errors import ExperimentConflictError, NotFoundError
from marquee.store.notify import notify
from marquee.store.tables import experiments

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Arm",
    "Ending",
    "Experiment",
    "Kind",
    "Status",
    "end_running",
    "finish",
    "get",
    "history",
    "running",
    "start",
]

Kind = Literal["canary", "ab"]
Ending = Literal["stopped", "promoted", "rolled_back"]
Status = Literal["running", "stopped", "promoted", "rolled_back"]

CHAMPION: Final = "champion"
"""Name of a canary's first arm."""
CHALLENGER: Final = "challenger"
"""Name of a canary's second arm."""

HASH_BYTES: Final = 8
FLOAT_BITS: Final = 53


@dataclass(frozen=True)
class Arm:
    """
    One of the models that an experiment compares.

    Attributes:
        share: of users, 0–1; those of all arms sum to 1.
        bundle: key of the bundle in the object store.
        digest: its SHA-256, hexadecimal.
        version: of the model in the tracker, where it is tracked.
    """

    name: str
    share: float
    bundle: str
    digest: str
    model: str
    version: str | None = None


@dataclass(frozen=True)
class Experiment:
    """
    Arms that users are divided among.

    Attributes:
        arms: the first is what the others are compared with.
        limits: what rolls a canary back, as it was set when it started.
        reason: why it was started.
        outcome: what was found, with the `reason` of its end; None while it runs.
    """

    experiment_id: int
    name: str
    kind: Kind
    arms: tuple[Arm, ...]
    salt: str
    limits: dict[str, Any]
    status: Status
    started_by: str
    reason: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: dict[str, Any] | None = None

    def arm_of(self, user_id: int) -> Arm:
        """The arm that a user is in, always the same."""
        content = self._salt_bytes + user_id.to_bytes(8, "little", signed=True)
        number = int.from_bytes(blake2b(content, digest_size=HASH_BYTES).digest())
        point = (number >> (8 * HASH_BYTES - FLOAT_BITS)) / (1 << FLOAT_BITS)  # in [0, 1)
        return self.arms[bisect_right(self._edges, point)]

    def arm(self, name: str) -> Arm:
        """
        The arm of a name.

        Raises:
            NotFoundError: no such arm.
        """
        found = {arm.name: arm for arm in self.arms}
        if name not in found:
            raise NotFoundError(
                f"The experiment {self.name!r} has no arm {name!r}.", fix=f"Its arms: {', '.join(found)}."
            )
        return found[name]

    @cached_property
    def _salt_bytes(self) -> bytes:
        return self.salt.encode()

    @cached_property
    def _edges(self) -> list[float]:
        """Where the arms but the first begin in [0, 1)."""
        return list(accumulate(arm.share for arm in self.arms[:-1]))


def start(
    connection: Connection,
    name: str,
    kind: Kind,
    arms: Sequence[Arm],
    *,
    started_by: str,
    reason: str,
    limits: Mapping[str, Any] | None = None,
    salt: str | None = None,
) -> Experiment:
    """
    Divide users among arms from now on.

    Args:
        salt: default: a new one, so that users are divided unlike in any experiment before.

    Raises:
        ExperimentConflictError: an experiment runs.
        ValueError: fewer than two arms, two of one name, an arm without a bundle, or shares that do not
            sum to 1.
    """
    _check(arms)
    statement = (
        upsert(experiments)
        .values(
            name=name,
            kind=kind,
            arms=[asdict(arm) for arm in arms],
            salt=token_hex(8) if salt is None else salt,
            limits=dict(limits or {}),
            started_by=started_by,
            reason=reason,
        )
        .on_conflict_do_nothing(index_elements=["status"], index_where=experiments.c.status == "running")
        .returning(*experiments.c)
    )
    while True:
        row = connection.execute(statement).one_or_none()
        if row is not None:
            notify(connection, "marquee_experiments", str(row.experiment_id))
            return _experiment(row._mapping)
        other = running(connection)
        if other is not None:  # else it ended between the two statements: try again
            raise ExperimentConflictError(
                f"The experiment {other.name!r} ({other.experiment_id}) is running.",
                fix="Wait for its end, or stop it.",
            )


def finish(
    connection: Connection,
    experiment_id: int,
    status: Ending,
    *,
    reason: str,
    outcome: Mapping[str, Any] | None = None,
) -> Experiment:
    """
    End an experiment: everybody has the champion again.

    Args:
        reason: why it ends, kept in its outcome.
        outcome: what was found, as JSON.

    Raises:
        NotFoundError: no such experiment.
        ExperimentConflictError: it has ended already.
    """
    row = connection.execute(
        update(experiments)
        .where(experiments.c.experiment_id == experiment_id, experiments.c.status == "running")
        .values(
            status=status,
            ended_at=func.now(),
            outcome={"reason": reason, **(outcome or {})},
        )
        .returning(*experiments.c)
    ).one_or_none()
    if row is None:
        ended = get(connection, experiment_id)
        raise ExperimentConflictError(
            f"The experiment {ended.name!r} ({experiment_id}) has ended already: {ended.status}.",
            fix="`marquee experiment status` shows what is running.",
        )
    notify(connection, "marquee_experiments", str(experiment_id))
    return _experiment(row._mapping)


def end_running(connection: Connection, *, reason: str) -> None:
    """End whatever runs, if anything does: for changes that its arms would keep from users."""
    query = select(experiments.c.experiment_id).where(experiments.c.status == "running").with_for_update()
    for experiment_id in connection.execute(query).scalars():
        finish(connection, experiment_id, "stopped", reason=reason)


def running(connection: Connection) -> Experiment | None:
    """The experiment under way, None where there is none."""
    row = connection.execute(select(experiments).where(experiments.c.status == "running")).one_or_none()
    return None if row is None else _experiment(row._mapping)


def get(connection: Connection, experiment_id: int) -> Experiment:
    """
    One experiment.

    Raises:
        NotFoundError: no such experiment.
    """
    query = select(experiments).where(experiments.c.experiment_id == experiment_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(
            f"There is no experiment {experiment_id}.", fix="`marquee experiment status --all` lists them."
        )
    return _experiment(row._mapping)


def history(connection: Connection, *, limit: int = 20) -> list[Experiment]:
    """Experiments, newest first."""
    query = select(experiments).order_by(experiments.c.experiment_id.desc()).limit(limit)
    return [_experiment(row._mapping) for row in connection.execute(query)]


def _check(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if len(arms) < 2:
        raise ValueError("An experiment needs at least two arms.")
    if len(set(names)) < len(names):
        raise ValueError(f"The names of the arms are not distinct: {', '.join(names)}.")
    if any(not arm.share > 0 for arm in arms) or not isclose(sum(arm.share for arm in arms), 1, rel_tol=1e-6):
        shares = ", ".join(f"{arm.name} {arm.share:g}" for arm in arms)
        raise ValueError(f"The shares of the arms must be above 0 and sum to 1, not {shares}.")
    if any(not arm.digest for arm in arms):
        raise ValueError("Each arm needs a bundle.")


def _experiment(row: Mapping[Any, Any]) -> Experiment:
    return Experiment(**{**row, "arms": tuple(Arm(**arm) for arm in row["arms"])})
