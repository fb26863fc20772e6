"""
Train: fit a model on a snapshot, track the run, publish a bundle, put it in the slot `challenger`.

Only the gate (`promote`) makes a challenger champion. An `mlp` has a gate of its own here: if it is accurate
and quick enough it becomes the `predictor` at once, and else the old one stays.

A run that is taken up again after a crash continues from its checkpoints; bundle and slots are written
last and together, so that a killed run leaves nothing behind that serves. Checkpoints of a training that
failed or was cancelled are given back by the next one.
"""

import shutil
import time
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection

from marquee.data import Catalog
from marquee.errors import RegistryError
from marquee.evaluation.predictor_gate import PredictorReport
from marquee.features.port import AS_OF, AT, HistoricalJoin
from marquee.models import Recommender, model_class
from marquee.models.base import Progress
from marquee.models.checkpoints import Checkpoints
from marquee.models.mlp import Mlp
from marquee.pipelines.checkpoint_copies import CheckpointCopies, sweep
from marquee.pipelines.curves import Curves
from marquee.pipelines.features import historical_join
from marquee.pipelines.judging import judge_predictor
from marquee.pipelines.run import RunContext
from marquee.pipelines.snapshots import Snapshot, read_snapshot, take_snapshot
from marquee.recommend import SimilarItems
from marquee.registry import Registry, TrackedRun, mirror_slots
from marquee.store import bundles
from marquee.store.bundles import BundleRef
from marquee.store.repositories import deployments, outbox, runs
from marquee.telemetry import get_logger

__all__ = ["train"]


def train(context: RunContext) -> dict[str, Any]:
    """
    Train a model and make it the challenger, and an `mlp` that passes its gate the predictor.

    Parameters of the run: `model` — a model name; `config` — hyper-parameters by name; `snapshot` — the id
    of a snapshot, default: the data as it is now.

    Returns:
        `model`, `version`, and what was measured; of an `mlp` also `predictor`: the verdict, or why not.

    Raises:
        ValueError: no such model or hyper-parameter.
    """
    name = str(context.parameters.get("model", "mlp"))
    kind = model_class(name)
    config = kind.Config.from_dict(context.parameters.get("config") or {})
    with context.database.begin() as connection:
        done = deployments.of_run(connection, context.run_id)
    if done:  # its process died between the last commit and the record of its end
        shutil.rmtree(_checkpoints(context), ignore_errors=True)
        return {"model": name, "version": done[0].version}
    context.progress("read snapshot", 0, 1)
    key = context.parameters.get("snapshot")
    snapshot = (
        read_snapshot(context.objects, key) if key else take_snapshot(context.database, context.objects)
    )
    context.progress("read snapshot", 1, 1)
    registry = Registry(context.settings)
    code_version = version("marquee-recsys")
    facts = {"rows": len(snapshot.interactions), "catalogue": len(snapshot.catalog)}
    tags = {
        "marquee.run_id": str(context.run_id),
        "marquee.snapshot": snapshot.key,
        "marquee.code_version": code_version,
    }
    _sweep(context)
    copies = CheckpointCopies(context.objects.remote, _checkpoints(context), context.run_id)
    with registry.run(name, parameters={**config.to_dict(), **facts}, tags=tags) as tracked, copies:
        model = kind(config)
        curves = Curves()
        metrics = _fit(model, snapshot, _Reported(context, tracked, curves), context)
        tracked.log(metrics)
        bundle = bundles.publish(
            context.objects,
            model.state(),
            model=name,
            cards=_cards(snapshot.catalog, model),
            metrics=metrics,
            snapshot=snapshot.key,
            code_version=code_version,
            similar=SimilarItems.fit(snapshot.interactions, snapshot.catalog),
            curves=curves.to_list(),
        )
    try:
        registry.register(
            _mlflow_name(name), tracked.run_id, bundle_key=bundle.key, bundle_version=bundle.version
        )
    except RegistryError as error:  # a mirror: what was trained serves without it
        get_logger().warning("train.not_registered", version=bundle.version, error=str(error))
    report = _judge_predictor(bundle, context)
    with context.database.begin() as connection:
        outbox.add(connection, bundles.object_keys(context.objects, bundle.key))
        _deploy(connection, "challenger", bundle, context)
        if report is not None and report.passed:
            _deploy(connection, "predictor", bundle, context, report)
    mirror_slots(context.settings, context.database)
    shutil.rmtree(_checkpoints(context), ignore_errors=True)  # nobody continues what has ended
    copies.forget()
    made = {"model": name, "version": bundle.version, **facts, **metrics}
    return made if report is None else {**made, "predictor": _said(report)}


def _judge_predictor(bundle: BundleRef, context: RunContext) -> PredictorReport | None:
    """What the predictor's gate says of an `mlp`, as it would serve; None for another model."""
    if bundle.model != Mlp.name:
        return None
    loaded = bundles.load(context.objects, bundle, context.settings.paths.bundles)
    report = judge_predictor(loaded, context.settings.gate)
    if not report.passed:
        get_logger().warning("train.predictor_refused", version=bundle.version, reasons=report.reasons)
    return report


def _deploy(
    connection: Connection,
    slot: deployments.Slot,
    bundle: BundleRef,
    context: RunContext,
    report: PredictorReport | None = None,
) -> None:
    deployments.append(
        connection,
        slot,
        bundle=bundle.key,
        digest=bundle.digest,
        model=bundle.model,
        version=bundle.version,
        deployed_by="train",
        reason=f"trained by run {context.run_id}",
        gate_report=None if report is None else report.to_dict(),
        run_id=context.run_id,
    )


def _said(report: PredictorReport) -> str:
    return report.verdict if report.verdict == "passed" else f"refused: {' '.join(report.reasons)}"


def _fit(model: Recommender, snapshot: Snapshot, progress: Progress, context: RunContext) -> dict[str, float]:
    """Fit, and return the final metrics."""
    join = historical_join(context.settings)
    offered: dict[str, Callable[[], Any]] = {
        "item_popularity": lambda: _popularity(snapshot, join),
        "join": lambda: join,
        "checkpoints": lambda: Checkpoints(_checkpoints(context)),
    }
    taken = signature(model.fit).parameters  # a model names what it can use beyond the contract
    model.fit(
        snapshot.interactions,
        snapshot.catalog,
        progress=progress,
        **{name: made() for name, made in offered.items() if name in taken},
    )
    return {name: float(value) for name, value in getattr(model, "report", {}).items()}


def _checkpoints(context: RunContext) -> Path:
    return context.settings.paths.checkpoints / str(context.run_id)


def _sweep(context: RunContext) -> None:
    def ended(found: Collection[UUID]) -> set[UUID]:
        with context.database.begin() as connection:
            return runs.ended(connection, found)

    sweep(context.objects.remote, context.settings.paths.checkpoints, ended)


def _popularity(snapshot: Snapshot, join: HistoricalJoin) -> Mapping[int, float] | None:
    """What sources said of the popularity of items, as it is known at the time of the fit."""
    reported = snapshot.popularity.filter(snapshot.popularity["popularity"].is_valid())
    now = pa.array(np.full(len(reported), time.time_ns() // 1000), pa.timestamp("us", "UTC"))
    asked = reported.select(["item_id"]).append_column(AT, now)
    known = join(reported.append_column(AS_OF, now), asked, "item_id")
    return dict(zip(asked["item_id"].to_pylist(), known["popularity"].to_pylist(), strict=True)) or None


def _cards(catalog: Catalog, model: Recommender) -> pa.Table:
    """Cards of the catalogue and, by id alone, of items of the model that the catalogue lacks."""
    table = catalog.table
    missing = model.items.ids[catalog.items.index(model.items.ids) < 0]
    if not len(missing):
        return table
    unknown = pa.table(
        [
            pa.array(missing)
            if field.name == "item_id"
            else pa.array([f"#{item_id}" for item_id in missing.tolist()])
            if field.name == "title"
            else pa.nulls(len(missing), field.type)
            for field in table.schema
        ],
        schema=table.schema,
    )
    return pa.concat_tables([table, unknown])


def _mlflow_name(model: str) -> str:
    return f"marquee-{model}".replace(":", "-").replace("/", "-")


class _Reported(Progress):
    """One report for all listeners: the run's row, the bars, the tracker, the curves of the bundle."""

    def __init__(self, context: RunContext, tracked: TrackedRun, curves: Curves) -> None:
        self._context = context
        self._tracked = tracked
        self._curves = curves
        self._done, self._total, self._unit = 0, 0, "steps"

    def total(self, steps: int, unit: str) -> None:
        self._done, self._total, self._unit = 0, steps, unit
        self._report()

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        self._done += 1
        self._tracked.step(metrics)
        self._curves.step(metrics)
        self._report()

    def _report(self) -> None:
        self._context.progress(f"train: {self._unit}", self._done, self._total)
