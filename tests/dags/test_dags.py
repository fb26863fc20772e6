"""What the DAGs are, as Airflow reads them: without a database, in a process of Airflow's own Python."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

DAGS = Path(__file__).parents[2] / "dags"
SCRIPT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.timetables.trigger import CronTriggerTimetable

bag = DagBag(sys.argv[1])


def seconds(delta):
    return None if delta is None else delta.total_seconds()


def told(task):
    return {
        "then": sorted(task.downstream_task_ids),
        "retries": task.retries,
        "delay": seconds(task.retry_delay),
        "backoff": task.retry_exponential_backoff,
        "timeout": seconds(task.execution_timeout),
        "tells": [callback.__name__ for callback in task.on_failure_callback],
        "endpoint": getattr(task, "endpoint", None),
        "mode": getattr(task, "mode", None),
        "every": getattr(task, "poke_interval", None),
        "at_most": getattr(task, "timeout", None),
    }


def schedule(dag):
    table = dag.timetable
    if isinstance(table, CronTriggerTimetable):
        return [table.expression, str(table.timezone)]
    return type(table).__name__


print(json.dumps({
    "errors": bag.import_errors,
    "dags": {
        dag.dag_id: {
            "schedule": schedule(dag),
            "max_active_runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "params": dag.params.dump(),
            "tasks": {task.task_id: told(task) for task in dag.tasks},
        }
        for dag in bag.dags.values()
    },
}))
"""


@pytest.fixture(scope="module")
def bag(airflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All DAGs, and what could not be imported."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "MARQUEE_SCHEDULE__MODEL": "item_knn",
        "MARQUEE_SCHEDULE__ZONE": "Europe/Berlin",
        "PYTHONPATH": str(DAGS),
    }
    command = [str(airflow_python), "-c", SCRIPT, str(DAGS)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_all_dags_are_imported(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    names = {path.stem for path in DAGS.glob("*.py")} - {"marquee_client", "marquee_tasks"}
    assert bag["dags"].keys() == names


def test_pipeline_runs_every_night_in_the_chosen_zone_one_step_after_the_other(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["marquee_pipeline"]
    assert dag["schedule"] == ["0 0 * * *", "Europe/Berlin"]
    endpoints = {
        "check_api_health": None,
        "prepare_data": "/run/prepare-data",
        "train": "/run/train",
        "gate_and_promote": "/v1/models/promote",
        "batch_inference": "/run/model-inference",
        "backup": "/run/backup",
    }
    assert {name: task["endpoint"] for name, task in dag["tasks"].items()} == endpoints
    order = list(endpoints)
    for task_id, after in zip(order, [*order[1:], None], strict=True):
        assert dag["tasks"][task_id]["then"] == ([after] if after else [])


def test_other_dags_start_by_event_by_hand_and_weekly(bag: dict[str, Any]) -> None:
    dags = bag["dags"]
    assert dags["marquee_retrain_on_drift"]["schedule"] == "AssetTriggeredTimetable"
    assert dags["marquee_backfill"]["schedule"] == "NullTimetable"
    assert dags["marquee_restore_drill"]["schedule"] == ["0 5 * * 0", "Europe/Berlin"]


def test_dags_that_train_train_what_is_chosen(bag: dict[str, Any]) -> None:
    trained = {name: dag["params"].get("model_name") for name, dag in bag["dags"].items()}
    assert trained["marquee_pipeline"] == trained["marquee_retrain_on_drift"] == "item_knn"


def test_every_task_is_retried_has_a_time_out_and_tells_of_its_failure(bag: dict[str, Any]) -> None:
    for dag in bag["dags"].values():
        assert dag["max_active_runs"] == 1
        assert dag["catchup"] is False
        for task in dag["tasks"].values():
            assert (task["retries"], task["delay"], task["backoff"]) == (5, 30, 2.0)
            assert 0 < task["timeout"] <= 4 * 3600
            assert task["tells"] == ["tell"]


def test_every_dag_waits_for_the_api_without_holding_a_slot(bag: dict[str, Any]) -> None:
    for dag in bag["dags"].values():
        sensor = dag["tasks"]["check_api_health"]
        assert (sensor["mode"], sensor["every"], sensor["at_most"]) == ("reschedule", 10, 600)


@pytest.mark.parametrize("path", sorted(DAGS.glob("marquee_*.py")), ids=lambda path: path.stem)
def test_dag_is_short_enough_to_be_read_at_a_glance(path: Path) -> None:
    if path.stem not in {"marquee_client", "marquee_tasks"}:
        assert len(path.read_text("utf-8").splitlines()) <= 60
