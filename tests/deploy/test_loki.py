"""Loki, Alloy, Promtail and what every host runs: they agree with each other and with our lines."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from marquee.config import LogSettings
from marquee.telemetry import begin_request, configure_logs, get_logger

DEPLOY = Path(__file__).parents[2] / "deploy"


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def promtail_stages() -> dict[str, Any]:
    stages: list[dict[str, Any]] = load("promtail/promtail.yml")["scrape_configs"][0]["pipeline_stages"]
    return {name: value for stage in stages for name, value in stage.items()}


def alloy() -> dict[str, Any]:
    """Alloy's blocks, as the maker of Promtail's configuration reads them."""
    spec = importlib.util.spec_from_file_location("make_promtail", DEPLOY / "promtail/make_promtail.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = dict(module.parse((DEPLOY / "alloy/config.alloy").read_text("utf-8")))
    return found


def test_loki_keeps_lines_for_a_time_and_tells_alertmanager() -> None:
    loki = load("loki/loki.yml")
    (schema,) = loki["schema_config"]["configs"]
    assert (schema["store"], schema["schema"], schema["index"]["period"]) == ("tsdb", "v13", "24h")
    assert loki["compactor"]["retention_enabled"]
    assert loki["compactor"]["delete_request_store"] == schema["object_store"]
    assert loki["limits_config"]["allow_structured_metadata"]
    assert "ALERTMANAGER_URL" in loki["ruler"]["alertmanager_url"]
    assert not loki["analytics"]["reporting_enabled"]


def test_alerts_of_logs_have_all_that_alerts_have() -> None:
    rules = {
        rule["alert"]: rule for group in load("loki/rules/logs.yml")["groups"] for rule in group["rules"]
    }
    assert set(rules) == {"ImmediateError", "HighWarningRate"}
    assert "for" not in rules["ImmediateError"]
    for name, rule in rules.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert "$value" in rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/alerts/{name}.md"


def test_ids_are_metadata_and_the_level_is_the_only_label_from_a_line() -> None:
    stages = promtail_stages()
    assert stages["labels"] == {"level": "level"}
    assert set(stages["structured_metadata"]) == {"request_id", "run_id"}


def test_alloy_sends_both_kinds_of_logs_through_the_stages_to_loki() -> None:
    blocks = alloy()
    for source in ("loki.source.docker", "loki.source.file"):
        assert dict(blocks[source])["forward_to"] == ["loki.process.lines.receiver"]
    assert dict(blocks["loki.process"])["forward_to"] == ["loki.write.default.receiver"]
    assert "host" in dict(blocks["loki.write"])["external_labels"]


def test_lines_of_marquee_have_the_fields_that_are_looked_for() -> None:
    stream = io.StringIO()
    configure_logs(LogSettings(format="json"), stream=stream)

    def say() -> None:
        begin_request(request_id="r-1")
        get_logger().error("test.failed", run_id="u-1")

    copy_context().run(say)
    line = json.loads(stream.getvalue())
    asked = promtail_stages()["json"]["expressions"]
    assert {name: line[field] for name, field in asked.items() if name != "timestamp"} == {
        "level": "error",
        "request_id": "r-1",
        "run_id": "u-1",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line[asked["timestamp"]])


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("ts=2026-01-01T00:00:00Z caller=main.go level=warn msg=x", "warn"),
        ('time="2026" level="error" msg=x', "error"),
        ("2026/01/01 [error] 12#0: connect() failed", "error"),
        ("ERROR:root:it failed", "ERROR"),
        ("done with 0 errors", None),
        ("no error was found", None),
    ],
)
def test_level_of_lines_that_are_not_json(line: str, level: str | None) -> None:
    found = re.search(promtail_stages()["match"]["stages"][0]["regex"]["expression"], line)
    assert (found["level"] if found else None) == level


def test_agents_are_bounded_read_only_and_on_loopback_unless_told() -> None:
    services = load("compose/agent.yml")["services"]
    assert set(services) == {"node-exporter", "cadvisor", "alloy"}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
        assert service["logging"]["options"]["max-size"], name
        assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[^@]+:v[\d.]+\}", service["image"]), name
        told = json.dumps([service["command"], service.get("ports")])
        assert "${MARQUEE_AGENT_ADDRESS:-${MARQUEE_PRIVATE_ADDRESS:-127.0.0.1}}" in told
        for mount in service["volumes"]:
            source, _, options = mount.partition(":")
            assert source == "alloy" or ":ro" in options, (name, mount)


def test_loki_accepts_its_configuration(not_run: Callable[[str], None], tmp_path: Path) -> None:
    _checked("loki", "Loki", not_run, "-verify-config", "-config.expand-env=true", tmp_path,
             f"-config.file={DEPLOY / 'loki/loki.yml'}")  # fmt: skip


def test_alloy_accepts_its_configuration(not_run: Callable[[str], None], tmp_path: Path) -> None:
    _checked("alloy", "Alloy", not_run, "validate", str(DEPLOY / "alloy/config.alloy"), tmp_path)


def test_promtail_accepts_its_configuration(not_run: Callable[[str], None], tmp_path: Path) -> None:
    _checked("promtail", "Promtail", not_run, "-check-syntax", "-config.expand-env=true", tmp_path,
             f"-config.file={DEPLOY / 'promtail/promtail.yml'}")  # fmt: skip


def _checked(program: str, name: str, not_run: Callable[[str], None], *arguments: str | Path) -> None:
    found = shutil.which(program)
    if found is None:
        not_run(name)
    assert found is not None
    (folder,) = (argument for argument in arguments if isinstance(argument, Path))
    command = [found, *(argument for argument in arguments if isinstance(argument, str))]
    environment = {**os.environ, "LOKI_DATA": str(folder), "LOKI_RULES": str(DEPLOY / "loki")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
