"""
The pipeline through the real scheduler with the real API, while things go wrong.

One Airflow for the module. Between it and the API stands a proxy that makes the faults of a network; the API
itself is killed for real. Tests build on one another in the order of this file.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow_world import DAG, World, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3000)]

RETRAIN, BACKFILL, DRILL = "marquee_retrain_on_drift", "marquee_backfill", "marquee_restore_drill"
LOOPBACK = "0100007F"
TRIES_AT_ONCE = 3
"""What fails at once is tried once; on a far too busy machine Airflow may lose a try or two itself."""


@pytest.fixture(scope="module")
def world(airflow_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("faults"), airflow_python)
    try:
        made.start_airflow()
        yield made
    finally:
        made.close()


def test_all_listen_on_the_loopback_alone_and_their_keys_are_for_nobody_else(world: World) -> None:
    assert any("api_server" in command for command in world.airflow_processes().values())
    assert world.airflow_listens_at() == {LOOPBACK}
    for name in ("jwt.key", "session.key", "fernet.key", "passwords.json", "connections.json"):
        assert (world.home / "airflow" / name).stat().st_mode & 0o077 == 0


def test_run_waits_for_an_api_that_is_down_and_fails_without_a_retry_or_another_step(world: World) -> None:
    run_id = world.trigger()
    assert world.states(run_id) == ["failed", *["upstream_failed"] * 5]
    sensor = world.tasks(run_id)["check_api_health"]
    assert sensor["try_number"] == 1
    [told] = world.told
    assert f"FAILED {DAG}.check_api_health in {run_id}" in told


def test_next_runs_are_green_whatever_the_network_and_the_api_do(world: World) -> None:
    """The first of two: 503 twice, and the API killed in the midst of train. The second: an answer hangs."""
    world.start_marquee()
    posted: list[str] = []
    hung: list[str] = []

    def fault(method: str, path: str) -> str | None:
        if method != "POST":
            return None
        posted.append(path)
        if path == "/run/prepare-data" and posted.count(path) <= 2:
            return "503"
        return "lose" if path == "/run/train" and posted.count(path) == 1 else None

    def kill() -> None:
        world.processes["api"].kill()
        world.processes["api"].wait()
        world.start_api()

    def hang(run: dict[str, Any]) -> str | None:
        if run["pipeline"] == "prepare" and "/run/backup" in posted and not hung:
            hung.append(run["run_id"])
            return "hang"
        return None

    world.fault, world.on_loss, world.change = fault, kill, hang
    first, second = world.trigger(), world.trigger()
    assert world.states(first) == ["success"] * 6
    assert world.tasks(first)["prepare_data"]["try_number"] >= 3
    assert "/problems/overloaded" in world.logs(first, "prepare_data")
    assert world.tasks(first)["train"]["try_number"] >= 2
    assert len(world.runs("train")) == 1, "the retry joined the run whose answer was lost"
    assert "The gate refused" in world.logs(first, "gate_and_promote"), "no failure"
    assert world.states(second) == ["success"] * 6
    ended = datetime.fromisoformat(world.run(first)["end_date"])
    assert datetime.fromisoformat(world.run(second)["start_date"]) >= ended, "one after the other"
    assert world.tasks(second)["prepare_data"]["try_number"] >= 2
    assert "Timeout" in world.logs(second, "prepare_data")
    assert world.runs("prepare")[0]["run_id"] == hung[0]
    assert len(world.runs("prepare")) == 2, "the retry joined the run whose end nobody heard of"
    assert len(world.told) == 1, "nobody is told of what mended itself"


def test_wrong_result_fails_the_run_at_once_and_is_told(world: World) -> None:
    def falsify(run: dict[str, Any]) -> None:
        if run["pipeline"] == "prepare" and run["status"] == "succeeded":
            run["counts"]["items"] = 0

    world.fault, world.change = lambda method, path: None, falsify
    run_id = world.trigger()
    assert world.states(run_id) == ["success", "failed", *["upstream_failed"] * 4]
    world.change = lambda run: None
    assert world.tasks(run_id)["prepare_data"]["try_number"] <= TRIES_AT_ONCE
    assert "items is 0, expected some int" in world.told[-1]


def test_backfill_twice_adds_nothing_and_the_newest_backup_is_restored(world: World) -> None:
    span = {"from": "2026-01-01", "to": "2126-01-01T00:00:00Z"}
    for dag_id, conf in ((BACKFILL, span), (BACKFILL, span), (DRILL, {})):
        world.trigger(dag_id, **conf)
    for dag_id, n_runs in ((BACKFILL, 2), (DRILL, 1)):
        until(
            lambda dag_id=dag_id, n_runs=n_runs: (
                [run["state"] for run in world.dag_runs(dag_id)] == ["success"] * n_runs
            ),
            lambda dag_id=dag_id: world.dag_runs(dag_id),
        )
    first, second = (run["counts"] for run in world.runs("backfill"))
    assert first["files"] == second["files"] >= 1
    assert (first["rows"], second["rows"]) == (0, 0)
    [drill], newest = world.runs("drill"), world.runs("backup")[0]["counts"]
    assert (drill["counts"]["backup"], drill["counts"]["rows"]) == (newest["backup"], newest["rows"])


def test_alarm_of_drift_trains_anew_once_however_often_it_is_seen(world: World) -> None:
    raised = {"kind": "preferences", "raised_at": "2026-11-23T00:00:00Z", "evidence": {}}
    trained = len(world.runs("train"))
    world.alarms = [
        {"alarm_id": "1", "resolved_at": "2026-11-23T01:00:00Z", **raised},
        {"alarm_id": "2", "resolved_at": None, **raised},
    ]
    until(
        lambda: [run["state"] for run in world.dag_runs(RETRAIN)] == ["success"],
        lambda: world.dag_runs(RETRAIN),
    )
    assert len(world.runs("train")) == trained + 1
    looks = world.drift_looks
    until(lambda: world.drift_looks > looks + 1, lambda: world.said("airflow"))
    assert len(world.dag_runs(RETRAIN)) == 1


def test_revoked_key_fails_the_run_at_once_with_what_the_api_says(world: World) -> None:
    world.marquee("keys", "create", "other", "--role", "operator")  # else loopback is trusted again
    world.marquee("keys", "revoke", world.key_id)
    run_id = world.trigger()
    assert world.states(run_id) == ["success", "failed", *["upstream_failed"] * 4]
    assert world.tasks(run_id)["prepare_data"]["try_number"] <= TRIES_AT_ONCE
    assert "/problems/unauthorized" in world.told[-1]


def test_key_is_in_no_log_message_or_rendered_template(world: World) -> None:
    assert (world.home / "airflow/connections.json").stat().st_mode & 0o077 == 0
    for path in (world.home / "airflow/logs").rglob("*.log*"):
        assert world.key not in path.read_text("utf-8", errors="replace"), path
    assert not any(world.key in told for told in world.told)
    answer = world.airflow.get(f"/api/v2/dags/{DAG}/dagRuns/~/taskInstances", params={"limit": 100})
    assert answer.json()["task_instances"]
    assert world.key not in answer.text


def test_even_a_killed_start_leaves_no_process_behind(world: World) -> None:
    world.processes["airflow"].kill()
    world.processes["airflow"].wait()
    until(lambda: not world.airflow_processes(), world.airflow_processes)
