"""`marquee ops`: the real programs are started, seen and stopped, and accept what is rendered."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from typer.testing import CliRunner
from waiting import until

from marquee.cli import app
from marquee.config import Settings
from marquee.errors import ConfigError, SourceUnavailableError
from marquee.monitoring.stack import read_state

DEADLINE_SECONDS = 120
GREETING = "Ctrl-C stops everything."
PORTS = (
    "MARQUEE_PORT",
    "MARQUEE_WORKER__OPS_PORT",
    "MARQUEE_OPS__PROMETHEUS_PORT",
    "MARQUEE_OPS__ALERTMANAGER_PORT",
    "MARQUEE_OPS__NODE_PORT",
    "MARQUEE_OPS__POSTGRES_PORT",
)


@pytest.fixture(scope="session")
def programs(missing: Callable[[str], None]) -> None:
    """The programs that Debian's packages bring."""
    names = (
        "prometheus",
        "prometheus-alertmanager",
        "prometheus-node-exporter",
        "prometheus-postgres-exporter",
    )
    for name in (*names, "promtool", "amtool"):
        if shutil.which(name) is None:
            missing(name)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """A fresh home with a database, and a free port for everything."""
    assert settings.database.url is not None
    return {
        **os.environ,
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_DATABASE__URL": settings.database.url.get_secret_value(),
        **{name: str(free_port()) for name in PORTS},
    }


class Command:
    """A running `marquee` command."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.environment = environment
        self.output = Path(environment["MARQUEE_HOME"]).with_name(f"{'-'.join(arguments)}.out")
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", *arguments], env=environment, stdout=out, stderr=out
            )

    def said(self) -> str:
        return self.output.read_text("utf-8", errors="replace")

    def until_greeted(self) -> str:
        until(lambda: GREETING in self.said(), self.said, self.process)
        return self.said()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[Command]:
    command = Command(environment, *arguments)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.stop(signal.SIGTERM)


def marquee(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marquee.cli", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def processes_of(environment: dict[str, str]) -> list[str]:
    """Command lines of the programs that were started for a home, as their environment says."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (
                    f"MARQUEE_HOME={environment['MARQUEE_HOME']}\0".encode()
                    in (entry / "environ").read_bytes()
                ):
                    found.append((entry / "cmdline").read_text("utf-8", errors="replace").replace("\0", " "))
            except OSError:
                continue  # it has just ended, or is another's
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
def test_up_shows_every_target_up_and_alerts_loaded_and_ctrl_c_leaves_nothing(
    environment: dict[str, str],
) -> None:
    url = f"http://127.0.0.1:{environment['MARQUEE_OPS__PROMETHEUS_PORT']}"
    with running(environment, "serve") as api, running(environment, "worker") as worker:
        with running(environment, "ops", "up") as up:
            said = up.until_greeted()
            assert "alerts loaded" in said
            port = environment["MARQUEE_OPS__ALERTMANAGER_PORT"]
            assert f"MARQUEE_SITE__ALERTMANAGER_URL=http://127.0.0.1:{port}" in said

            def well() -> bool:
                assert api.process.poll() is None, api.said()
                assert worker.process.poll() is None, worker.said()
                return read_state(url).well

            until(well, up.said)
            state = json.loads(marquee(environment, "ops", "status", "--url", url, "--json").stdout)
            assert {job for job, *_ in state["targets"]} == {
                "alertmanager", "marquee-api", "marquee-worker", "node", "postgres", "prometheus"
            }  # fmt: skip
            assert {"MarqueeErrorBudgetBurnFast", "HostDown", "MarqueeDrift"} <= set(state["alerts"])
            assert state["alertmanagers"] == 1
            assert up.stop() == 0
        with pytest.raises(SourceUnavailableError):
            read_state(url)
    assert processes_of(environment) == []


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
def test_killed_supervisor_takes_its_programs_with_it(environment: dict[str, str]) -> None:
    with running(environment, "ops", "up") as up:
        assert "marquee-api" in up.until_greeted()
        assert len(processes_of(environment)) == 5
        up.stop(signal.SIGKILL)
        until(lambda: not processes_of(environment), lambda: str(processes_of(environment)))


@pytest.mark.usefixtures("programs")
def test_taken_port_is_named_before_anything_starts(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environment["MARQUEE_OPS__NODE_PORT"])))
        taken.listen()
        done = marquee(environment, "ops", "up")
    assert done.returncode == 1
    assert "MARQUEE_OPS__NODE_PORT" in done.stderr
    assert processes_of(environment) == []


def test_missing_programs_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(app, ["ops", "up"])
    assert isinstance(result.exception, ConfigError)
    for package in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter"):
        assert package in str(result.exception.fix)
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.integration
@pytest.mark.usefixtures("programs")
def test_rendered_configuration_is_accepted_and_names_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {"workhorse": "10.0.0.11", "controltower": "tower.internal", "nervous": "10.0.0.13"}
    for name, value in {
        **hosts,
        "site": "https://films.example.org",
        "runbooks": "https://wiki.example.org/alerts",
        "slack_errors_channel": "#films-down",
        "slack_errors_url_file": "/run/secrets/slack",
        "mail_to": "night@example.org",
        "smtp": "mail.example.org:587",
        "smtp_user": "films",
    }.items():
        monkeypatch.setenv(f"MARQUEE_OPS__{name.upper()}", value)
    for _ in range(2):  # a second time over the first
        result = CliRunner().invoke(app, ["ops", "render", "--output", str(tmp_path)])
        assert result.exit_code == 0, result.output
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus/prometheus.yml"], check=True)
    subprocess.run(["amtool", "check-config", tmp_path / "alertmanager/alertmanager.yml"], check=True)

    def targets(job: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = yaml.safe_load((tmp_path / f"prometheus/targets/{job}.yml").read_text())
        return found

    assert targets("marquee-api") == [
        {"targets": ["10.0.0.11:8000"], "labels": {"host": "10.0.0.11", "role": "workhorse"}}
    ]
    assert targets("marquee-worker")[0]["targets"] == ["10.0.0.11:8001"]
    assert [target["targets"] for target in targets("node")] == [[f"{host}:9100"] for host in hosts.values()]
    assert targets("site")[0]["labels"]["__exporter__"] == "10.0.0.13:9115"
    labels = yaml.safe_load((tmp_path / "prometheus/prometheus.yml").read_text())["global"]["external_labels"]
    assert labels["runbooks"] == "https://wiki.example.org/alerts"
    of_logs = yaml.safe_load((tmp_path / "loki/rules/fake/logs.yml").read_text())["groups"][0]["rules"]
    assert [rule["annotations"]["runbook_url"] for rule in of_logs] == [
        f"https://wiki.example.org/alerts/{rule['alert']}.md" for rule in of_logs
    ]
    text = (tmp_path / "alertmanager/alertmanager.yml").read_text()
    for said in ("#films-down", "#marquee-warnings", "/run/secrets/slack", "night@example.org"):
        assert said in text
    sender = yaml.safe_load(text)["global"]
    assert sender["smtp_smarthost"] == "mail.example.org:587"
    assert sender["smtp_auth_username"] == "films"
    assert sender["smtp_require_tls"] is True
    assert (tmp_path / "alertmanager/secrets").stat().st_mode & 0o077 == 0
