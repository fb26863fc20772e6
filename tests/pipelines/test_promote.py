"""The gate over a real database and real bundles: who becomes champion, what is recorded, the way back."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from marquee.config import Settings
from marquee.errors import NotFoundError, RegistryError
from marquee.models import Ease, Popularity, Recommender, model_class
from marquee.pipelines.run import run_here
from marquee.pipelines.snapshots import take_snapshot
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.store.repositories.interactions import load_interactions
from marquee.store.repositories.items import upsert_items
from marquee.store.versions import list_versions
from marquee.testing import planted_tastes

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")]

NO_MLFLOW = "nothing://is.there"
"""A tracker that refuses at once: no promotion may depend on it."""


PLUGIN = textwrap.dedent(
    """
    from marquee.models import Ease


    class Blind(Ease):
        def score(self, histories):
            if (histories.lengths == 0).any():
                raise IndexError("no events")
            return super().score(histories)
    """
)
"""A model that cannot answer anybody of whom nothing is known."""


@dataclass
class Home:
    """A home with planted tastes in its database."""

    settings: Settings
    database: Database
    objects: ObjectStore

    def load(self) -> None:
        """What is there already is not doubled."""
        tastes = planted_tastes(n_users=240, events_per_user=12)
        rows = tastes.interactions
        table = rows.to_arrow().append_column("event_key", [[str(row) for row in range(len(rows))]])
        with self.database.begin() as connection:
            upsert_items(connection, tastes.catalog.table, source="test")
        with self.database.begin() as connection:
            load_interactions(connection, table, source="test", kind="imported")

    def train(self, model: Recommender, name: str | None = None) -> deployments.Deployment:
        """Fit on what the database holds and make it the challenger, as `train` does without MLflow."""
        snapshot = take_snapshot(self.database, self.objects)
        model.fit(snapshot.interactions, snapshot.catalog)
        ref = bundles.publish(
            self.objects,
            model.state(),
            model=name or model.name,
            cards=snapshot.catalog.table,
            metrics={"test_accuracy": 0.5},
            snapshot=snapshot.key,
            code_version="test",
        )
        with self.database.begin() as connection:
            return deployments.append(
                connection, "challenger", bundle=ref.key, digest=ref.digest, model=ref.model,
                version=ref.version, deployed_by="test", reason="test",
            )  # fmt: skip

    def promote(self, *, gate: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
        settings = self.settings
        if gate:
            settings = settings.model_copy(update={"gate": settings.gate.model_copy(update=gate)})
        return run_here(settings, self.database, self.objects, "promote", parameters)

    def champion(self) -> deployments.Deployment | None:
        with self.database.begin() as connection:
            return deployments.current(connection, "champion")


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of the same recipes on the same data, shared by the tests."""
    return tmp_path_factory.mktemp("evaluations")


@pytest.fixture
def home(database_url: str, tmp_path: Path, evaluations: Path) -> Any:
    settings = Settings(
        home=tmp_path / "home", database={"url": database_url}, mlflow={"tracking_uri": NO_MLFLOW}
    )
    settings.home.mkdir()
    (settings.home / "evaluations").symlink_to(evaluations)
    with Database.open(settings) as database:
        made = Home(settings, database, ObjectStore(settings.paths.objects))
        made.load()
        yield made


@pytest.fixture
def crowned(home: Home) -> Home:
    """A home where `ease` has won against popularity."""
    home.train(Ease())
    assert home.promote()["verdict"] == "passed"
    return home


def test_better_model_becomes_champion_with_its_report(home: Home) -> None:
    trained = home.train(Ease())
    counts = home.promote(by="somebody")
    champion = home.champion()
    assert champion is not None
    assert (counts["verdict"], counts["version"]) == ("passed", trained.version)
    assert (champion.digest, champion.deployed_by) == (trained.digest, "somebody")
    report = champion.gate_report
    assert report is not None
    assert report["champion"] == {"model": "popularity", "version": None, "digest": None}
    assert report["ndcg_at_10"]["difference"]["low"] > 0
    assert report["measured"]["latency_ms"] > 0
    assert all(check["passed"] for check in report["measured"]["checks"])
    assert "NDCG@10 is better" in champion.reason
    with home.database.begin() as connection:
        assert deployments.current(connection, "challenger").digest == trained.digest


def test_worse_model_is_refused_with_the_reason_and_the_champion_stays(crowned: Home) -> None:
    before = crowned.champion()
    worse = crowned.train(Popularity())
    counts = crowned.promote()
    assert counts["verdict"] == "refused"
    assert "may be worse by more than 2%" in counts["reasons"][0]
    assert crowned.champion() == before
    with crowned.database.begin() as connection:
        kept = deployments.current(connection, "challenger")
    assert (kept.digest, kept.verdict) == (worse.digest, "refused")
    assert kept.gate_report["reasons"] == counts["reasons"]


def test_champion_is_not_judged_against_itself(crowned: Home) -> None:
    before = crowned.champion()
    counts = crowned.promote()
    assert (counts["verdict"], counts["reasons"]) == ("passed", ["It is the champion already."])
    assert crowned.champion() == before


def test_same_recipe_on_newer_data_takes_over(home: Home) -> None:
    with home.database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM interactions WHERE user_id BETWEEN 1 AND 60")
    older = home.train(Ease())
    assert home.promote()["verdict"] == "passed"
    home.load()
    newer = home.train(Ease())
    counts = home.promote()
    assert counts["verdict"] == "passed"
    assert "own recipe, fitted on newer data" in counts["reasons"][0]
    assert home.champion().digest == newer.digest
    assert home.promote(version=older.version)["verdict"] == "refused"  # and not back again


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"max_bundle_mib": 0.001}, "MiB; at most 0.001 are allowed"),
        ({"max_latency_ms": 1e-6}, "at most 1e-06 are allowed"),
    ],
)
def test_too_large_or_too_slow_is_refused(home: Home, gate: dict[str, float], said: str) -> None:
    home.train(Ease())
    counts = home.promote(gate=gate)
    assert counts["verdict"] == "refused"
    assert [said in reason for reason in counts["reasons"]] == [True]
    assert home.champion() is None


def test_model_that_misbehaves_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marquee_test_blind.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    name = "marquee_test_blind:Blind"
    home.train(model_class(name)(), name)
    counts = home.promote()
    assert counts["verdict"] == "refused"
    assert any("IndexError: no events" in reason for reason in counts["reasons"])


def test_few_data_are_no_evidence(home: Home) -> None:
    with home.database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM interactions WHERE user_id > 8")
    home.train(Ease())
    counts = home.promote()
    assert counts["verdict"] == "refused"
    assert "queries" in counts["reasons"][0]
    assert home.promote(force=True, reason="the first model")["verdict"] == "forced"


def test_force_is_recorded_with_its_reason_and_what_the_gate_found(crowned: Home) -> None:
    worse = crowned.train(Popularity())
    with pytest.raises(ValueError, match="reason"):
        crowned.promote(force=True)
    counts = crowned.promote(force=True, reason="ease shows the wrong posters")
    champion = crowned.champion()
    assert counts["verdict"] == champion.verdict == "forced"
    assert champion.digest == worse.digest
    assert champion.reason == champion.gate_report["forced_reason"] == "ease shows the wrong posters"
    assert "may be worse" in champion.gate_report["reasons"][0]


def test_approval_lets_what_passed_serve(home: Home) -> None:
    trained = home.train(Ease())
    assert home.promote(require_approval=True)["verdict"] == "waiting"
    assert home.champion() is None
    with home.database.begin() as connection:
        approved = deployments.approve(connection, deployed_by="chief", reason="looks well")
    assert home.champion() == approved
    assert (approved.digest, approved.verdict) == (trained.digest, "passed")
    assert approved.gate_report["approved_by"] == "chief"
    with home.database.begin() as connection, pytest.raises(NotFoundError):
        deployments.approve(connection, deployed_by="chief", reason="again")


def test_approval_is_void_once_the_champion_is_another(home: Home) -> None:
    waiting = home.train(Ease())
    home.promote(require_approval=True)
    home.train(Popularity())
    home.promote(force=True, reason="meanwhile")
    with home.database.begin() as connection, pytest.raises(RegistryError, match="has changed"):
        deployments.approve(connection, deployed_by="chief", reason="late", version=waiting.version)


def test_refused_model_does_not_wait(crowned: Home) -> None:
    crowned.train(Popularity())
    assert crowned.promote(require_approval=True)["verdict"] == "refused"
    with crowned.database.begin() as connection, pytest.raises(NotFoundError):
        deployments.approve(connection, deployed_by="chief", reason="anyway")


def test_nothing_to_promote_is_said(home: Home) -> None:
    with pytest.raises(NotFoundError, match="no challenger"):
        home.promote()
    with pytest.raises(NotFoundError, match="no-such"):
        home.promote(version="no-such")


def test_champion_that_changes_meanwhile_ends_the_promotion(home: Home) -> None:
    """An operator may roll back while the gate is measuring."""
    first = home.train(Popularity())
    home.train(Ease())

    def report(step: str, done: int, total: int | None) -> None:
        if step == "compare" and done == 0:
            with home.database.begin() as connection:
                deployments.append(
                    connection, "champion", bundle=first.bundle, digest=first.digest, model=first.model,
                    version=first.version, deployed_by="test", reason="test",
                )  # fmt: skip

    with pytest.raises(RegistryError, match="changed while"):
        run_here(home.settings, home.database, home.objects, "promote", {}, on_progress=report)
    assert home.champion().digest == first.digest


def test_versions_say_where_they_serve_and_what_the_gate_said(crowned: Home) -> None:
    crowned.train(Popularity())
    crowned.promote()
    with crowned.database.begin() as connection:
        newest, oldest = list_versions(connection, crowned.objects)
        assert list_versions(connection, crowned.objects, limit=1) == [newest]
    assert (newest.model, newest.slots, newest.verdict) == ("popularity", ("challenger",), "refused")
    assert (oldest.model, oldest.slots, oldest.verdict) == ("ease", ("champion",), "passed")
    assert oldest.ndcg_at_10 > newest.ndcg_at_10 > 0
    assert newest.reasons[0].startswith("NDCG@10 is not better")
    assert oldest.metrics == {"test_accuracy": 0.5}
    assert oldest.size_bytes > 1000
    with crowned.database.begin() as connection:
        (crowned.objects.root / oldest.bundle).unlink()
        assert [one.size_bytes is None for one in list_versions(connection, crowned.objects)] == [False, True]


@pytest.mark.slow
def test_strict_turns_a_refusal_into_exit_code_3(crowned: Home) -> None:
    crowned.train(Popularity())
    refused = command(crowned, "promote", "--json")
    assert refused.returncode == 0, refused.stderr
    assert json.loads(refused.stdout)["verdict"] == "refused"
    strict = command(crowned, "promote", "--strict")
    assert strict.returncode == 3, strict.stderr
    assert "refused" in strict.stdout
    forced = command(crowned, "promote", "--force", "--reason", "a test", "--strict")
    assert forced.returncode == 0, forced.stderr
    assert "Forced: a test" in forced.stdout
    back = command(crowned, "rollback", "--reason", "it was a test", "--json")
    assert json.loads(back.stdout)["model"] == "ease"
    listed = json.loads(command(crowned, "models", "--json").stdout)
    assert {one["model"]: one["slots"] for one in listed} == {
        "popularity": ["challenger"],
        "ease": ["champion"],
    }
    shadow = command(crowned, "shadow", listed[0]["version"], "--json")
    assert json.loads(shadow.stdout)["slot"] == "shadow"
    assert command(crowned, "shadow", "stop").returncode == 0
    with crowned.database.begin() as connection:
        assert deployments.current(connection, "shadow") is None


def command(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = home.settings.database.url
    assert url is not None
    return subprocess.run(
        [sys.executable, "-m", "marquee.cli", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "MARQUEE_HOME": str(home.settings.home),
            "MARQUEE_DATABASE__URL": url.get_secret_value(),
            "MARQUEE_MLFLOW__TRACKING_URI": NO_MLFLOW,
        },
        timeout=240,
        check=False,
    )
