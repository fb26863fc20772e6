"""Versions: every model that was trained, where it serves, and what the gate said of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from marquee.errors import IncompatibleBundleError, NotFoundError, StoreUnavailableError
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.repositories import deployments
from marquee.store.repositories.deployments import Deployment, Slot

__all__ = ["Details", "Version", "describe", "list_versions"]

VERDICTS = ("passed", "refused", "waiting", "forced")


@dataclass(frozen=True)
class Version:
    """
    A trained model.

    Attributes:
        slots: that hold it now.
        trained_at: when it was first deployed, as challenger as a rule.
        verdict, reasons, judged_at: of the gate the last time it was asked; None and () before.
        ndcg_at_10: that the gate measured.
        metrics: that its training reported.
        size_bytes: of its files; None where the bundle is gone or does not verify.
    """

    model: str
    version: str | None
    bundle: str
    digest: str
    slots: tuple[Slot, ...]
    trained_at: datetime
    verdict: str | None
    reasons: tuple[str, ...]
    judged_at: datetime | None
    ndcg_at_10: float | None
    metrics: dict[str, float | None]
    size_bytes: int | None


@dataclass(frozen=True)
class Details:
    """
    A trained model with how it came about.

    Attributes:
        version: as in the list.
        report: of the gate the last time it was asked.
        curves: what the training reported as it went on; None of a bundle that has none with it.
        parameters: the hyper-parameters.
        snapshot: the data that it was trained on; None where the bundle is gone, as `code_version`.
        deployments: newest first.
    """

    version: Version
    report: dict[str, Any] | None
    curves: list[dict[str, Any]] | None
    parameters: dict[str, Any]
    snapshot: str | None
    code_version: str | None
    deployments: list[Deployment]


def describe(connection: Connection, objects: ObjectStore, name: str) -> Details:
    """
    One version, with how it came about.

    Args:
        connection: to the deployments.
        objects: where the bundles are.
        name: of the version, as `deployments.of_version` takes it.

    Raises:
        NotFoundError: no such version.
    """
    rows = deployments.with_digest(connection, deployments.of_version(connection, name).digest)
    manifest = _manifest(rows[-1], objects)
    judged = _judged(rows)
    return Details(
        _version(rows, deployments.current_all(connection), manifest),
        judged.gate_report if judged is not None else None,
        manifest.get("curves"),
        manifest.get("meta", {}).get("config", {}),
        manifest.get("snapshot"),
        manifest.get("code_version"),
        rows,
    )


def list_versions(connection: Connection, objects: ObjectStore, *, limit: int | None = None) -> list[Version]:
    """
    The versions that were ever deployed in a slot, newest first.

    Args:
        connection: to the deployments.
        objects: where the bundles are.
        limit: at most so many.
    """
    current = deployments.current_all(connection)
    by_version: dict[tuple[str | None, str], list[Deployment]] = {}
    for one in deployments.every(connection):  # newest first
        by_version.setdefault((one.version, one.digest), []).append(one)
    newest = sorted(by_version.values(), key=lambda rows: rows[-1].deployment_id, reverse=True)
    return [_version(rows, current, _manifest(rows[-1], objects)) for rows in newest[:limit]]


def _judged(rows: list[Deployment]) -> Deployment | None:
    """The newest row that has a verdict of the gate, the predictor's own apart."""
    return next((one for one in rows if one.slot != "predictor" and one.verdict in VERDICTS), None)


def _manifest(deployment: Deployment, objects: ObjectStore) -> dict[str, Any]:
    """What its bundle says of itself; next to nothing where that is gone, out of reach or damaged."""
    try:
        return bundles.read_manifest(objects, deployment.bundle)
    except (NotFoundError, IncompatibleBundleError, StoreUnavailableError):
        return {"metrics": {}, "files": None}


def _version(rows: list[Deployment], current: dict[str, Deployment], manifest: dict[str, Any]) -> Version:
    first, judged = rows[-1], _judged(rows)
    report: dict[str, Any] = (judged.gate_report if judged is not None else None) or {}
    figure = (report.get("ndcg_at_10") or {}).get("challenger", {}).get("mean")
    files = manifest["files"]
    return Version(
        model=first.model,
        version=first.version,
        bundle=first.bundle,
        digest=first.digest,
        slots=tuple(
            one.slot for one in current.values() if (one.version, one.digest) == (first.version, first.digest)
        ),
        trained_at=first.created_at,
        verdict=judged.verdict if judged is not None else None,
        reasons=tuple(report.get("reasons", ())),
        judged_at=judged.created_at if judged is not None else None,
        ndcg_at_10=figure,
        metrics=manifest["metrics"],
        size_bytes=None if files is None else sum(entry["size"] for entry in files.values()),
    )
