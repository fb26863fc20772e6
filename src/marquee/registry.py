"""
MLflow, and nothing else: log a run, register its version, log what the gate said, mirror slots as aliases.

MLflow is a mirror for people: what serves is decided by the table `deployments`. It is imported on first
use (1.4 s), never by the API, and its telemetry is off.
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, get_args

from marquee.config import Settings
from marquee.errors import RegistryError
from marquee.models.base import Progress
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.telemetry import get_logger

__all__ = ["Registry", "TrackedRun", "mirror_slots", "mlflow_environment"]

EXPERIMENT = "marquee"
SLOTS: Final[tuple[deployments.Slot, ...]] = get_args(deployments.Slot)
BATCH = 500
"""Metrics sent at a time: MLflow takes at most 1,000, and a single call costs as much as a batch."""


def mlflow_environment() -> dict[str, str]:
    """Variables that keep MLflow quiet, local and small (two processes instead of ten)."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        # A server that is away holds nobody up for minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }


def tracking_uri(settings: Settings) -> str:
    """The configured server, or the database file in Marquee's home."""
    return settings.mlflow.tracking_uri or f"sqlite:///{settings.paths.mlflow / 'mlflow.db'}"


class Registry:
    """
    The tracking server.

    Args:
        settings: `mlflow.tracking_uri` or, unset, a database file under the home.

    Raises:
        RegistryError: MLflow is not installed, or its server does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        os.environ.update(mlflow_environment())
        settings.paths.mlflow.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from mlflow import MlflowClient
            except ImportError as error:
                raise RegistryError(
                    "MLflow is not installed.",
                    fix="Run: pip install 'marquee-recsys[train]' (in a checkout: make setup).",
                ) from error
        uri = tracking_uri(settings)
        self._artifacts = settings.paths.mlflow / "artifacts"
        with _translated("open the experiment"):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self._experiment_id = self._open_experiment(is_server=uri.startswith(("http://", "https://")))

    def _open_experiment(self, *, is_server: bool) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        # A server decides where artifacts go; of a database, MLflow would put them where we happen to stand.
        location = None if is_server else self._artifacts.as_uri()
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))

    @contextmanager
    def run(
        self, name: str, *, parameters: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Iterator["TrackedRun"]:
        """
        A run that is finished, or marked as failed, when the block ends, if MLflow answers then.

        Args:
            name: shown in lists, e.g. the model.
            parameters: hyper-parameters and data facts, logged whole.
            tags: e.g. the pipeline run, the snapshot, the code version.

        Raises:
            RegistryError: the run cannot be started; afterwards MLflow holds nobody up.
        """
        from mlflow.entities import Param

        with _translated("start a run"):
            created = self._client.create_run(self._experiment_id, run_name=name, tags=dict(tags))
            run = TrackedRun(self._client, created.info.run_id)
            params = [Param(key, str(value)[:6000]) for key, value in parameters.items()]
            self._client.log_batch(run.run_id, params=params)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        finally:
            with suppress(RegistryError), _translated("finish a run"):  # logged
                run.flush()
                self._client.set_terminated(run.run_id, status=status)

    def register(self, model: str, run_id: str, *, bundle_key: str, bundle_version: str) -> str:
        """
        A model version that points to a bundle.

        Returns:
            MLflow's version number.
        """
        from mlflow.exceptions import MlflowException

        with _translated("register a version"):
            try:
                self._client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            tags = {"bundle_key": bundle_key, "bundle_version": bundle_version}
            # A server takes what has no scheme for a path of its own machine, and refuses it.
            source = f"marquee:/{bundle_key}"
            version = self._client.create_model_version(model, source=source, run_id=run_id, tags=tags)
        return str(version.version)

    def log_report(
        self, bundle_version: str, report: Mapping[str, Any], figures: Mapping[str, float], *, name: str
    ) -> None:
        """
        Add a report on a bundle to the training run that made it.

        Args:
            report: JSON-able, stored as the artifact `name`.
            figures: its numbers, logged as metrics.

        Raises:
            RegistryError: the bundle was never registered, or MLflow does not answer.
        """
        found = self._find(bundle_version)
        if found is None:
            raise RegistryError(
                f"MLflow knows no version of the bundle {bundle_version}.",
                fix="Check that MARQUEE_MLFLOW__TRACKING_URI names the server it was trained with.",
            )
        with _translated("log a report"):
            self._client.log_dict(found.run_id, dict(report), name)
        tracked = TrackedRun(self._client, found.run_id)
        tracked.log(figures)
        tracked.flush()

    def mirror(self, slots: Mapping[str, str | None]) -> None:
        """
        Make the aliases say what the slots hold.

        Args:
            slots: slot → bundle version, None for an empty slot. A version that was never registered here
                has no alias.
        """
        known = {slot: self._find(version) for slot, version in slots.items() if version is not None}
        wanted = {slot: found for slot, found in known.items() if found is not None}
        with _translated("mirror the slots"):
            for model in self._client.search_registered_models():
                for slot, number in dict(model.aliases).items():
                    found = wanted.get(slot)
                    if found is not None and (found.name, str(found.version)) == (model.name, str(number)):
                        del wanted[slot]
                    elif slot in slots:
                        self._client.delete_registered_model_alias(model.name, slot)
            for slot, found in wanted.items():
                self._client.set_registered_model_alias(found.name, slot, found.version)

    def _find(self, bundle_version: str) -> Any:
        """The model version of a bundle, None where there is none."""
        with _translated("find a version"):
            found = self._client.search_model_versions(f"tags.bundle_version = '{bundle_version}'")
        return found[0] if found else None


def mirror_slots(settings: Settings, database: Database) -> bool:
    """
    Make MLflow's aliases say what is deployed, as far as MLflow answers.

    Returns:
        Whether they do; a failure is logged, and holds nobody up.
    """
    with database.begin() as connection:
        deployed = deployments.current_all(connection)
    slots: dict[str, str | None] = {
        slot: deployed[slot].version if slot in deployed else None for slot in SLOTS
    }
    try:
        Registry(settings).mirror(slots)
    except RegistryError as error:
        get_logger().warning("registry.not_mirrored", error=str(error))
        return False
    return True


@dataclass
class TrackedRun(Progress):
    """
    A run under way; as `Progress` it collects the metrics of each step and sends them in batches.

    What MLflow does not take is sent with a later batch.
    """

    _client: Any
    run_id: str

    def __post_init__(self) -> None:
        self._pending: list[Any] = []
        self._due = BATCH
        self._step = 0

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """One epoch or iteration with its metrics."""
        if metrics:
            self.log(metrics, step=self._step)
        self._step += 1

    def log(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Metrics at a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [Metric(key, float(value), now, step) for key, value in metrics.items()]
        if len(self._pending) >= self._due:
            self._due = len(self._pending) + BATCH
            with suppress(RegistryError):  # logged
                self.flush()

    def flush(self) -> None:
        """
        Send what is pending.

        Raises:
            RegistryError: MLflow does not answer.
        """
        while self._pending:
            with _translated("log metrics"):
                self._client.log_batch(self.run_id, metrics=self._pending[:BATCH])
            del self._pending[:BATCH]
        self._due = BATCH


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Foreign exceptions leave this module as ours."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        get_logger().warning("registry.failed", action=action, error=type(error).__name__)
        raise RegistryError(
            f"MLflow could not {action}: {(str(error) or type(error).__name__).splitlines()[0]}",
            fix="Check MARQUEE_MLFLOW__TRACKING_URI, or unset it to track locally.",
        ) from error
