"""Prometheus's files as its own tools see them, and what they promise: tests and a runbook for each alert."""

import re
import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer.main
import yaml
from prometheus_client.metrics import MetricWrapperBase

from marquee.cli import app
from marquee.telemetry import metrics

REPOSITORY = Path(__file__).parents[2]
PROMETHEUS = REPOSITORY / "deploy/prometheus"
RUNBOOKS = REPOSITORY / "docs/runbooks/alerts"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
KINDS = {"fires", "does not fire", "boundary", "missing data"}
FROM_LOGS = {"ImmediateError", "HighWarningRate"}
"""Alerts that Loki sends."""

Run = Callable[..., str]


def rules() -> list[dict[str, Any]]:
    files = (yaml.safe_load(file.read_text()) for file in RULES)
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
PAGES = sorted(page for page in RUNBOOKS.glob("*.md") if page.name != "README.md")


@pytest.mark.integration
def test_promtool_accepts_configuration_and_rules(promtool: Run) -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *RULES)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: Run, cases: Path) -> None:
    promtool("test", "rules", cases)


def test_each_alert_is_tested_firing_quiet_at_its_boundary_and_without_data() -> None:
    tested = defaultdict(set)
    for cases in CASES:
        for case in yaml.safe_load(cases.read_text())["tests"]:
            alert, kind, _ = case["name"].split(": ", 2)
            assert {test["alertname"] for test in case["alert_rule_test"]} == {alert}
            fires = any("exp_alerts" in test for test in case["alert_rule_test"])
            assert fires or kind != "fires", case["name"]
            assert not fires or kind != "does not fire", case["name"]
            tested[alert].add(kind)
    assert tested == dict.fromkeys(NAMES, KINDS)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alert_says_how_grave_it_is_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$value" in notes["summary"] or "$labels" in notes["summary"]
    assert notes["description"].endswith((".", "%"))
    assert notes["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{rule['alert']}.md"


def test_summary_tells_the_value_wherever_there_is_more_to_tell_than_yes_or_no() -> None:
    silent = {rule["alert"] for rule in ALERTS if "$value" not in rule["annotations"]["summary"]}
    assert silent == {"MarqueeNoChampion", "MarqueeDrift", "HostDown", "SiteDown", "TargetDown"}


def test_runbooks_are_where_alerts_link_to() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert REPOSITORY / config["global"]["external_labels"]["runbooks"] == RUNBOOKS
    assert {page.stem for page in PAGES} == {*NAMES, *FROM_LOGS}
    index = (RUNBOOKS / "README.md").read_text()
    assert {page.stem for page in PAGES} == set(re.findall(r"\]\((\w+)\.md\)", index))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_runbook_has_symptom_check_and_mend_with_commands_that_exist(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Symptom", "Check", "Mend"]
    for expression in re.findall(r"^```promql\n(.*?)^```", text, re.M | re.S):
        promql_parser.parse(expression)
    commands = re.findall(r"^marquee (.+)$", text, re.M)
    commands += re.findall(r"`marquee ([^`]+)`", text)
    for command in commands:
        parse_command(shlex.split(command, comments=True))
    settings = set(re.findall(r"`(MARQUEE_[A-Z_]+[A-Z])[=`]", text))
    known = (REPOSITORY / "docs/configuration.md").read_text()
    assert {name for name in settings if f"`{name}`" not in known} == set()


def test_rules_speak_of_no_metric_that_is_not_ours_or_known() -> None:
    declared = {
        f"{family.name}{suffix}"
        for collector in vars(metrics).values()
        if isinstance(collector, MetricWrapperBase)
        for family in collector.describe()
        for suffix in ("", "_total", "_bucket", "_count", "_sum")
    }
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    ours = {
        name
        for rule in rules()
        for name in re.findall(r"\bmarquee_\w+", re.sub(r":\w+|\w+:", "", rule["expr"]))
    }
    assert ours <= declared
    of_rules = {name for rule in rules() for name in re.findall(r"\b\w+:\w+:\w+", rule["expr"])}
    assert of_rules <= recorded


def test_each_job_is_watched_through_a_file_of_targets_of_its_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["file_sd_configs"] for job in config["scrape_configs"]}
    assert jobs == {name: [{"files": [f"targets/{name}.yml"]}] for name in jobs}
    assert {file.stem for file in (PROMETHEUS / "targets").iterdir()} == set(jobs)
    for name in jobs:
        for entry in yaml.safe_load((PROMETHEUS / "targets" / f"{name}.yml").read_text()):
            assert set(entry["labels"]) == {"host", "role"}
            assert all(target.startswith("127.0.0.1:") for target in entry["targets"])


def parse_command(words: list[str]) -> None:
    """Find a command of Marquee, and have it parse its arguments."""
    command: Any = typer.main.get_command(app)
    context = None
    while hasattr(command, "get_command"):
        context = command.make_context("marquee", [], resilient_parsing=True)
        if not words or words[0].startswith("-"):
            return
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no `marquee … {name}`"
        command = found
    command.make_context("marquee", words, parent=context)
