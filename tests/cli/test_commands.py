"""The commands as a person or a script runs them, in processes of their own on a home of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from free_ports import free_port
from waiting import until

pytestmark = [pytest.mark.integration]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "home"


@pytest.fixture(scope="module")
def marquee(home: Path) -> Run:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "marquee.cli", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "MARQUEE_HOME": str(home), **environment},
            timeout=240,
            check=False,
        )

    return run


def parsed(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def pipeline(marquee: Run) -> dict[str, Any]:
    """The whole pipeline with the perceptron on the default sample, once."""
    return parsed(marquee("pipeline", "run", "--model", "mlp", "--json"))


@pytest.mark.slow
def test_pipeline_run_makes_recommendations_from_nothing(pipeline: dict[str, Any], marquee: Run) -> None:
    assert pipeline["prepare"]["items"] == 200
    assert 2_000 < pipeline["prepare"]["interactions"] < 4_000
    assert pipeline["train"]["test_accuracy"] >= 0.99
    assert pipeline["train"]["test_loss"] <= 0.05
    assert pipeline["train"]["predictor"] == "passed"
    assert pipeline["promote"]["verdict"] in {"passed", "refused"}  # against popularity
    assert pipeline["promote"]["version"] == pipeline["train"]["version"]
    assert pipeline["infer"]["users"] == 300
    rows = parsed(marquee("recommend", "--user", "1", "-k", "10", "--json"))
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert all(set(row) == {"rank", "item_id", "title", "score"} and row["title"] for row in rows)
    assert len({row["item_id"] for row in rows}) == 10


@pytest.mark.slow
def test_second_pipeline_run_adds_no_row(pipeline: dict[str, Any], marquee: Run) -> None:
    again = parsed(marquee("pipeline", "run", "--model", "popularity", "--json"))
    assert again["prepare"]["interactions"] == pipeline["prepare"]["interactions"]
    assert again["prepare"]["snapshot"] == pipeline["prepare"]["snapshot"]
    assert again["train"]["model"] == "popularity"


@pytest.mark.slow
def test_unknown_user_gets_popular_items(pipeline: dict[str, Any], marquee: Run) -> None:
    assert len(parsed(marquee("recommend", "--user", "987654321", "--json"))) == 10


@pytest.mark.slow
def test_runs_lists_what_happened(pipeline: dict[str, Any], marquee: Run) -> None:
    listed = parsed(marquee("runs", "--json"))
    assert {"prepare", "train", "infer"} <= {run["pipeline"] for run in listed}
    assert all(run["status"] == "succeeded" for run in listed)
    shown = marquee("runs").stdout
    assert "train" in shown
    # The table has room for the beginning of an id; the API takes whole ones.
    for run in listed:
        assert str(UUID(run["run_id"]))[:8] in shown


@pytest.mark.slow
def test_doctor_finds_all_well_after_a_run(pipeline: dict[str, Any], marquee: Run) -> None:
    report = parsed(marquee("doctor", "--json", MARQUEE_PORT="18999"))
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert report["ok"]
    assert states["database"] == states["object store"] == states["challenger"] == states["predictor"] == "ok"
    assert states["champion"] in {"ok", "note"}  # the gate decides
    assert states["TMDB key"] == "note"
    assert states["training of rankers"] == "ok"


def test_paths_as_json_and_shell_name_the_same_places(marquee: Run, home: Path) -> None:
    places = parsed(marquee("paths", "--json"))
    assert places["home"] == str(home)
    shell = marquee("paths", "--shell").stdout
    printed = subprocess.run(
        ["sh", "-c", f"{shell}\necho $MARQUEE_CHECKPOINTS_DIR"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == places["checkpoints"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("paths",), {"MARQUEE_PORT": "99999"}, "MARQUEE_PORT"),
        (("runs",), {"MARQUEE_DATABASE__URL": "mysql://x"}, "postgresql://"),
        (("runs",), {"MARQUEE_DATABASE__URL": "postgresql://u:hidden@127.0.0.1:1/x"}, "127.0.0.1"),
        pytest.param(("ingest", "movielens", "/nonexistent"), {}, "/nonexistent", marks=pytest.mark.slow),
        pytest.param(
            ("ingest", "interactions", "/nonexistent.csv"), {}, "/nonexistent.csv", marks=pytest.mark.slow
        ),
        pytest.param(("train", "--model", "no-such-model"), {}, "popularity", marks=pytest.mark.slow),
        (("train", "--set", "nonsense"), {}, "name=value"),
        pytest.param(
            ("train", "--model", "popularity", "--set", "no_such=1"), {}, "no_such", marks=pytest.mark.slow
        ),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    marquee: Run, arguments: Sequence[str], environment: dict[str, str], said: str
) -> None:
    result = marquee(*arguments, **environment)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.returncode in {1, 2}
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in result.stderr
    assert "hidden" not in result.stderr + result.stdout


def test_help_lists_every_verb_and_loads_nothing_heavy(marquee: Run) -> None:
    verbs = ("up", "doctor", "paths", "ingest", "simulate", "train", "evaluate", "infer", "recommend")
    verbs += ("promote", "rollback", "models", "shadow")
    printed = marquee("--help").stdout
    assert all(verb in printed for verb in (*verbs, "pipeline", "serve", "worker", "mlflow", "runs"))
    probe = (
        "import sys\nfrom marquee.cli import app\n"
        "print([m for m in ('numpy', 'sqlalchemy', 'pyarrow', 'mlflow', 'fastapi') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.slow
def test_mlflow_opens_with_at_most_two_processes(home: Path) -> None:
    port = str(free_port())
    started = subprocess.Popen(
        [sys.executable, "-m", "marquee.cli", "mlflow", "--port", port],
        env={**os.environ, "MARQUEE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/"), process=started)
        assert len(_processes_of_session(started.pid)) <= 2
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _processes_of_session(leader: int) -> list[str]:
    """The living processes of a session; the sixth field of their state names it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(entry.name)
    return found
