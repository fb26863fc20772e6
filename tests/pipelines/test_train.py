"""What a training leaves behind: a challenger, a predictor if it is good enough, and MLflow as its mirror."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs
from waiting import until

from marquee.config import Settings
from marquee.pipelines.run import run_here
from marquee.registry import Registry, mirror_slots, mlflow_environment
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.store.repositories.interactions import load_interactions
from marquee.store.repositories.items import upsert_items
from marquee.store.versions import describe
from marquee.testing import planted_tastes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
]

POOR = {"max_epochs": 1, "hidden": [4]}
LENIENT = {"min_accuracy": 0.0, "max_cross_entropy": 100.0, "max_latency_ms": 10_000.0}


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def opened(database_url: str, tmp_path: Path, tracker: str) -> Iterator[tuple[Settings, Database]]:
    settings = Settings(
        home=tmp_path / "home", database={"url": database_url}, mlflow={"tracking_uri": tracker}
    )
    tastes = planted_tastes()
    with Database.open(settings) as database:
        with database.begin() as connection:
            upsert_items(connection, tastes.catalog.table, source="test")
        with database.begin() as connection:
            keys = [[str(row) for row in range(len(tastes.interactions))]]
            rows = tastes.interactions.to_arrow().append_column("event_key", keys)
            load_interactions(connection, rows, source="test", kind="imported")
        yield settings, database


def run(
    settings: Settings,
    database: Database,
    pipeline: str,
    gate: dict[str, Any] | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    changed = settings.model_copy(update={"gate": settings.gate.model_copy(update=gate or {})})
    return run_here(changed, database, ObjectStore(settings.paths.objects), pipeline, parameters)


def slots(database: Database) -> dict[str, str | None]:
    with database.begin() as connection:
        return {slot: one.version for slot, one in deployments.current_all(connection).items()}


def test_training_fills_the_challenger_only_and_the_bundle_needs_no_database(opened: Any) -> None:
    settings, database = opened
    counts = run(settings, database, "train", model="ease")
    assert slots(database) == {"challenger": counts["version"]}
    with database.begin() as connection:
        deployed = deployments.current(connection, "challenger")
    bundle = bundles.load(ObjectStore(settings.paths.objects), deployed.bundle, settings.paths.bundles)
    similar = bundle.similar()
    assert similar is not None
    assert len(similar.similar([10], 5).item_ids[0]) == 5
    facts = bundle.catalog().table
    assert (
        facts["genres"].null_count == facts["runtime_minutes"].null_count == facts["keywords"].null_count == 0
    )
    assert np.isfinite(bundle.recommender().score(planted_tastes().interactions.histories())).all()


def test_poor_predictor_is_refused_and_the_old_one_stays(opened: Any) -> None:
    settings, database = opened
    accepted = run(settings, database, "train", LENIENT, model="mlp", config=POOR)
    assert accepted["predictor"] == "passed"
    with database.begin() as connection:
        told = describe(connection, ObjectStore(settings.paths.objects), accepted["version"])
    assert told.parameters["max_epochs"] == 1
    assert told.curves is not None
    assert {curve["name"] for curve in told.curves} >= {"train_loss", "validation_loss"}
    assert [curve["steps"] for curve in told.curves] == [[1]] * len(told.curves)
    assert slots(database)["predictor"] == accepted["version"]
    with database.begin() as connection:
        report = deployments.current(connection, "predictor").gate_report
    assert report["verdict"] == "passed"
    assert report["latency_ms"] > 0
    refused = run(settings, database, "train", model="mlp", config={**POOR, "seed": 1})
    assert refused["predictor"].startswith("refused: Test accuracy")
    assert "Test cross-entropy" in refused["predictor"]
    assert slots(database) == {"challenger": refused["version"], "predictor": accepted["version"]}
    again = run(settings, database, "promote", slot="predictor")
    assert (again["verdict"], slots(database)["predictor"]) == ("refused", accepted["version"])
    forced = run(settings, database, "promote", slot="predictor", force=True, reason="better than none")
    assert (forced["verdict"], slots(database)["predictor"]) == ("forced", refused["version"])
    with database.begin() as connection:
        deployments.roll_back(connection, "predictor", deployed_by="me", reason="test")
    assert slots(database)["predictor"] == accepted["version"]
    run(settings, database, "train", model="popularity")
    with pytest.raises(ValueError, match="'popularity'"):
        run(settings, database, "promote", slot="predictor")
    with pytest.raises(ValueError, match="gate"):
        run(settings, database, "promote", slot="shadow")


def test_tracker_shows_what_the_gate_said_and_what_serves(opened: Any, tmp_path: Path) -> None:
    settings, database = opened
    first = run(settings, database, "train", model="ease")
    run(settings, database, "promote", force=True, reason="a test")
    second = run(settings, database, "train", model="popularity")
    run(settings, database, "promote", force=True, reason="another test")
    client = Registry(settings)._client
    assert aliases(client) == {"champion": second["version"], "challenger": second["version"]}
    found = client.search_model_versions(f"tags.bundle_version = '{second['version']}'")[0]
    assert client.get_run(found.run_id).data.metrics["gate/bundle_mib"] > 0
    (report,) = client.list_artifacts(found.run_id, "gate")
    stored = json.loads(Path(client.download_artifacts(found.run_id, report.path, str(tmp_path))).read_text())
    assert stored["verdict"] == "forced"
    with database.begin() as connection:
        deployments.roll_back(connection, "champion", deployed_by="an API", reason="test")
    assert run(settings, database, "mirror")["mirrored"]
    assert aliases(client) == {"champion": first["version"], "challenger": second["version"]}
    with database.begin() as connection:
        deployments.clear(connection, "champion", deployed_by="me", reason="test")
    assert mirror_slots(settings, database)
    assert "champion" not in aliases(client)


@pytest.fixture
def server(tracker: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The URL of MLflow's own server, and how to have it gone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracker]
    environment = {**os.environ, **mlflow_environment()}
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", port, "--workers", "1"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    try:
        until(lambda: answers(url), process=process)
        yield url, kill
    finally:
        kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(600)
def test_tracker_that_goes_away_holds_up_no_training_and_hides_no_error(
    opened: Any, server: tuple[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url, kill = server
    settings, database = opened
    settings = settings.model_copy(
        update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": url})}
    )
    objects = ObjectStore(settings.paths.objects)

    def gone(step: str, done: int, total: int | None) -> None:
        if step == "train: epoch":
            kill()

    with (
        capture_logs() as said,
        pytest.raises(KeyError, match="the true error"),
        Registry(settings).run("failing", parameters={}, tags={}) as failing,
    ):
        failing.log({"loss": 1.0})
        made = run_here(settings, database, objects, "train", {"config": POOR}, on_progress=gone)
        raise KeyError("the true error")
    assert slots(database) == {"challenger": made["version"]}
    told = [line["event"] for line in said if line["log_level"] == "warning"]
    assert {"registry.failed", "train.not_registered", "registry.not_mirrored"} <= set(told)


def test_failed_training_gives_its_checkpoints_back_to_the_next_one(opened: Any) -> None:
    settings, database = opened
    kept = settings.paths.checkpoints

    def fail(step: str, done: int, total: int | None) -> None:
        if step == "train: epoch" and done == 3:
            raise KeyError("no more")

    wanted = {"model": "mlp", "config": {**POOR, "max_epochs": 4}}
    objects = ObjectStore(settings.paths.objects)
    with pytest.raises(KeyError, match="no more"):
        run_here(settings, database, objects, "train", wanted, on_progress=fail)
    assert list(kept.glob("*/*"))
    run(settings, database, "train", model="popularity")
    assert not list(kept.iterdir())


def aliases(client: Any) -> dict[str, str]:
    """Alias → bundle version, over all registered models; no alias may be there twice."""
    found: dict[str, str] = {}
    for model in client.search_registered_models():
        for alias, number in model.aliases.items():
            assert alias not in found
            found[alias] = client.get_model_version(model.name, number).tags["bundle_version"]
    return {alias: version for alias, version in found.items() if alias != "predictor"}
