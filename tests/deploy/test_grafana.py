"""The dashboards: made from their sources, of metrics that exist, in words that Grafana itself accepts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY
from waiting import until

from marquee.telemetry import metrics  # noqa: F401  # registers them

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
CHECKS = DEPLOY / "checks"
BOARDS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (DEPLOY / "grafana/dashboards").glob("*.json")
}
OF_OTHERS = re.compile(
    r"up|scrape_duration_seconds|ALERTS|(node|container|pg|process|prometheus|alertmanager|log)_\w+"
)
"""Metrics of exporters, of Prometheus itself and of Alloy (`log_`)."""
VALUES = {"__rate_interval": "1m", "__interval": "1m", "__auto": "1m", "search": "text"}


@pytest.fixture(scope="session")
def node(missing: Callable[[str], None]) -> str:
    """Node.js, with Grafana's packages installed."""
    found = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    if found is None:
        missing("Node.js")
    if not (CHECKS / "node_modules/@grafana/schema").is_dir():
        missing("Grafana's grammar and types (deploy/checks/node_modules; make check installs them)")
    assert found is not None
    return found


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield f"{name}: {panel['title']}", panel


def expressions(source: str) -> dict[str, str]:
    """Name → what a data source is asked, with values for the variables."""
    found = {
        f"{name}, {target['refId']}": target["expr"]
        for name, panel in panels()
        for target in panel["targets"]
        if target["datasource"]["uid"] == source
    }
    for name, board in BOARDS.items():
        for mark in board["annotations"]["list"]:
            if mark["datasource"]["uid"] == source:
                found[f"{name}: mark {mark['name']}"] = mark["expr"]
    return {name: filled(expression) for name, expression in found.items()}


def filled(expression: str) -> str:
    return re.sub(r"\$(\w+)", lambda match: VALUES.get(match[1], ".*"), expression)


def metric_names(expression: str) -> set[str]:
    found = set()

    def visit(node: Any) -> bool:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(selector.name)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def known_metrics() -> set[str]:
    names = set()
    for family in REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
            family.type, ("",)
        )
        names |= {family.name + suffix for suffix in suffixes}
    return names


def run_node(
    node: str, script: str, *arguments: str | Path, text: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, script, *map(str, arguments)],
        cwd=CHECKS,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_five_dashboards_are_there() -> None:
    assert {board["uid"] for board in BOARDS.values()} == {
        f"marquee-{name}" for name in ("service", "recommender", "data", "hosts", "logs")
    }


@pytest.mark.parametrize("script", ["grafana/source/make.py", "promtail/make_promtail.py"])
def test_what_is_checked_in_is_what_the_sources_make(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(DEPLOY / script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_panels_say_what_they_show_and_ask_known_sources() -> None:
    sources = {
        source["uid"]: source["type"]
        for source in yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/marquee.yml").read_text())[
            "datasources"
        ]
    }
    for name, panel in panels():
        assert panel["description"].endswith("."), name
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references)) != [""], name
        for target in panel["targets"]:
            assert sources[target["datasource"]["uid"]] == target["datasource"]["type"], name
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], name


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (board["uid"], panel["title"])
            assert place["x"] + place["w"] <= 24, (board["uid"], panel["title"])
            taken |= cells


def test_expressions_parse_and_their_metrics_exist() -> None:
    known = known_metrics()
    for name, expression in expressions("prometheus").items():
        names = metric_names(expression)
        assert names, name
        unknown = {metric for metric in names if metric not in known and not OF_OTHERS.fullmatch(metric)}
        assert not unknown, name


def test_variables_are_used_and_defined() -> None:
    for board in BOARDS.values():
        defined = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(board["panels"])))
        assert used == defined, board["uid"]


@pytest.mark.slow
def test_dashboards_are_of_grafanas_types_and_wrong_ones_are_not(node: str, tmp_path: Path) -> None:
    """One run of the compiler for all: it takes seconds to read the types."""
    board = {
        **BOARDS["service"],
        "panels": [p for p in BOARDS["service"]["panels"] if p["type"] == "timeseries"],
    }
    wrongs = {
        "value": ('"displayMode": "table"', '"displayMode": "tables"'),
        "option": ('"calcs"', '"calculations"'),
        "type": ('"refId": "A"', '"refId": 1'),
        "panel": ('"type": "timeseries"', '"type": "timelines"'),
        "query": ('"expr"', '"expression"'),
    }
    for name, (right, wrong) in wrongs.items():
        text = json.dumps(board)
        assert right in text, name
        (tmp_path / f"wrong_{name}.json").write_text(text.replace(right, wrong), "utf-8")
    done = run_node(
        node, "dashboards.mjs", *(DEPLOY / "grafana/dashboards").glob("*.json"), *tmp_path.glob("*.json")
    )
    assert {line.partition(":")[0] for line in done.stderr.splitlines() if line[:1].strip()} == {
        f"wrong_{name}" for name in wrongs
    }, done.stderr


def test_logql_is_of_grafanas_grammar(node: str) -> None:
    found = expressions("loki")
    rules = yaml.safe_load((DEPLOY / "loki/rules/logs.yml").read_text("utf-8"))
    for group in rules["groups"]:
        found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    selectors = re.findall(
        r'selector = ("(?:\\.|[^"\\])+")', (DEPLOY / "alloy/config.alloy").read_text("utf-8")
    )
    assert selectors
    found |= {f"stage.match {n}": json.loads(selector) for n, selector in enumerate(selectors)}
    for source in yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/marquee.yml").read_text())[
        "datasources"
    ]:
        for field in source["jsonData"].get("derivedFields", ()):
            found[f"field {field['name']}"] = field["url"].replace("$${__value.raw}", "1234")
    assert len(found) > 6
    done = run_node(node, "logql.mjs", text=json.dumps(found))
    assert done.returncode == 0, done.stderr


def test_wrong_logql_is_refused(node: str) -> None:
    done = run_node(node, "logql.mjs", text=json.dumps({"cut": 'sum(rate({a="b"} | json [1m])'}))
    assert done.returncode == 1
    assert "cut" in done.stderr


def test_lock_names_no_registry() -> None:
    assert '"resolved"' not in (CHECKS / "package-lock.json").read_text("utf-8")


def test_grafana_shows_what_is_provisioned(not_run: Callable[[str], None], tmp_path: Path) -> None:
    grafana = shutil.which("grafana")
    if grafana is None:
        not_run("Grafana")
    assert grafana is not None
    port = "13999"
    environment = {
        "GF_PATHS_DATA": str(tmp_path),
        "GF_PATHS_PROVISIONING": str(DEPLOY / "grafana/provisioning"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": port,
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "MARQUEE_DASHBOARDS": str(DEPLOY / "grafana/dashboards"),
        "PROMETHEUS_URL": "http://127.0.0.1:9090",
        "LOKI_URL": "http://127.0.0.1:3100",
        "ALERTMANAGER_URL": "http://127.0.0.1:9093",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [grafana, "server", "--homepath", "/usr/share/grafana"], env=environment, stdout=log, stderr=log
        )
    try:
        until(
            lambda: shown(port) == {board["uid"] for board in BOARDS.values()},
            (tmp_path / "log").read_text,
            server,
        )
    finally:
        server.terminate()
        server.wait()


def shown(port: str) -> set[str]:
    """The dashboards that it has, by their ids; none while it does not answer."""
    try:
        found = httpx.get(f"http://127.0.0.1:{port}/api/search?tag=marquee").json()
    except (httpx.HTTPError, ValueError):
        return set()
    return {one["uid"] for one in found}
