"""docs/your-own-model.md, executed: its files are written, its commands are run."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marquee.config import Settings
from marquee.store.bundles import load
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.testing import planted_tastes

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-model.md").read_text("utf-8")
FILES: dict[str, str] = dict(re.findall(r"```\w+ (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has after following the page: the files, a log of ratings, a catalogue."""
    made = tmp_path / "mine"
    made.mkdir()
    for name, text in FILES.items():
        (made / name).write_text(text, "utf-8")
    tastes = planted_tastes(n_users=240, events_per_user=12)
    rows, films = tastes.interactions, tastes.catalog.table
    lines = ["user_id,item_id,event,rating,occurred_at"]
    lines += [
        f"{user},{item},rate,8,{1_600_000_000 + time // 1_000_000}"
        for user, item, time in zip(rows.user_ids, rows.item_ids, rows.timestamps, strict=True)
    ]
    (made / "ratings.csv").write_text("\n".join(lines), "utf-8")
    titles = zip(films["item_id"].to_pylist(), films["title"].to_pylist(), strict=True)
    (made / "films.csv").write_text("item_id,title\n" + "\n".join(f"{i},{t}" for i, t in titles), "utf-8")
    return made


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    """Runs a program of the environment in the reader's folder."""

    def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / command[0]
        made = subprocess.run(
            [str(program), *command[1:]],
            cwd=folder,
            env={**os.environ, "MARQUEE_HOME": str(tmp_path / "home"), **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert made.returncode == 0, f"{shlex.join(command)}\n{made.stdout}\n{made.stderr}"
        return made

    return run


def test_model_of_the_page_has_at_most_forty_lines() -> None:
    assert sum(bool(line.strip()) for line in FILES["rp3beta.py"].splitlines()) <= 40


@pytest.mark.slow
def test_model_of_the_page_passes_the_conformance_suite(run: Run) -> None:
    passed = run("pytest", "-q", "-p", "no:cacheprovider", "test_rp3beta.py")
    assert re.search(r"\d\d passed", passed.stdout)


@pytest.mark.integration
@pytest.mark.slow
def test_commands_of_the_page_compare_tune_train_and_serve_the_model(
    run: Run, settings: Settings, database: Database
) -> None:
    given = settings.database.url
    assert given is not None
    environment = {
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_DATABASE__URL": given.get_secret_value(),
        "MARQUEE_MLFLOW__TRACKING_URI": f"sqlite:///{settings.home.parent}/mlflow.db",
    }
    answers = {}
    for command in COMMANDS[:-1]:
        answers[command[1]] = json.loads(run(*command, "--json", **environment).stdout)
    models = {row["model"]: row for row in answers["evaluate"]}
    assert models["rp3beta:Rp3Beta"]["ndcg_at_10"] > models["popularity"]["ndcg_at_10"]
    assert set(answers["tune"]["config"]) == {"beta", "seed"}
    assert answers["train"]["model"] == "rp3beta:Rp3Beta"
    assert answers["promote"]["verdict"] == "passed"
    assert answers["infer"]["users"] == 240
    assert len(answers["recommend"]) == 10
    with database.begin() as connection:
        deployed = deployments.current(connection, "champion")
    assert deployed is not None
    bundle = load(ObjectStore(settings.paths.objects), deployed.bundle, settings.paths.bundles)
    assert bundle.manifest["meta"]["config"] == {"beta": 0.4, "seed": 0}


@pytest.mark.integration
def test_installed_entry_point_gives_the_model_a_plain_name(run: Run, folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "rp3beta-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "rp3beta.py").rename(site / "rp3beta.py")
    group, _, entry = FILES["pyproject.toml"].strip().partition("\n")
    assert group == '[project.entry-points."marquee.models"]'
    (info / "entry_points.txt").write_text("[marquee.models]\n" + entry.replace('"', ""), "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rp3beta\nVersion: 1.0\n", "utf-8")
    made = run(*COMMANDS[-1], "--no-track", "--json", PYTHONPATH=str(site))
    assert {"rp3beta", "popularity"} <= {row["model"] for row in json.loads(made.stdout)}
