"""Alertmanager's files as its own tool sees them: who is told of what, and of what nobody is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "deploy/alertmanager/alertmanager.yml"
RULES = sorted((REPOSITORY / "deploy/prometheus/rules").glob("*.yml"))

Run = Callable[..., str]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return found


def alerts() -> dict[tuple[str, str], dict[str, Any]]:
    """(name, severity) → rule."""
    files = (yaml.safe_load(file.read_text()) for file in RULES)
    found = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {(rule["alert"], rule["labels"]["severity"]): rule for rule in found if "alert" in rule}


@pytest.mark.integration
def test_amtool_accepts_the_configuration_without_any_secret(amtool: Run) -> None:
    assert not (CONFIG.parent / "secrets").exists()
    said = amtool("check-config", CONFIG)
    assert "1 templates" in said


@pytest.mark.integration
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=critical", "alertname=MarqueeDatabaseDown"], "errors"),
        (["severity=warning", "alertname=MarqueeDrift", "kind=taste"], "warnings"),
        (["severity=info", "alertname=Whatever"], "nobody"),
        (["severity=critical", "alertname=ImmediateError", "service=api"], "errors"),
        (["severity=warning", "alertname=HighWarningRate", "service=worker"], "warnings"),
        (["alertname=WithoutSeverity"], "warnings"),
    ],
)
def test_alert_goes_to_the_receiver_of_its_severity(amtool: Run, labels: list[str], receiver: str) -> None:
    amtool("config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}", *labels)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "severity"), alerts(), ids="-".join)
def test_each_alert_of_the_rules_is_routed(amtool: Run, name: str, severity: str) -> None:
    receiver = {"critical": "errors", "warning": "warnings"}[severity]
    labels = [f"alertname={name}", f"severity={severity}", "host=alpha", "cluster=marquee"]
    amtool("config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}", *labels)


def test_errors_go_to_slack_and_mail_warnings_to_slack_alone_and_all_say_when_it_is_over(
    config: dict[str, Any],
) -> None:
    receivers = {receiver.pop("name"): receiver for receiver in config["receivers"]}
    assert {name: set(kinds) for name, kinds in receivers.items()} == {
        "errors": {"slack_configs", "email_configs"},
        "warnings": {"slack_configs"},
        "nobody": set(),
    }
    ways = [way for kinds in receivers.values() for found in kinds.values() for way in found]
    assert all(way["send_resolved"] for way in ways)
    channels = {
        name: [way["channel"] for way in kinds["slack_configs"]]
        for name, kinds in receivers.items()
        if "slack_configs" in kinds
    }
    assert channels == {"errors": ["#marquee-errors"], "warnings": ["#marquee-warnings"]}


def test_no_secret_stands_in_the_configuration(config: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                secret = re.search(r"password|api_url|token|secret", name)
                assert not secret or (name.endswith("_file") and value.startswith("secrets/")), name
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(config)


def test_inhibition_names_alerts_that_exist(config: dict[str, Any]) -> None:
    known = {name for name, _ in alerts()} | {"ImmediateError", "HighWarningRate"}
    matchers = [
        matcher
        for rule in config["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
    ]
    assert matchers
    for matcher in matchers:
        pattern = re.fullmatch(r'alertname(?:=~|!=|=)"(.+)"', matcher)
        assert pattern is not None
        expanded = pattern[1].replace("Burn(Fast|Slow)", "BurnFast|MarqueeErrorBudgetBurnSlow")
        assert set(expanded.split("|")) <= known
