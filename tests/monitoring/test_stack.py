"""What the stack looks at, and what it sees."""

from pathlib import Path

import pytest
import yaml

from marquee.config import Settings
from marquee.errors import ConfigError, SourceUnavailableError
from marquee.monitoring import stack

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_each_job_of_prometheus_has_targets_and_no_other() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert set(stack.targets(Settings())) == set(stack.local_targets(Settings(), [])) == jobs
    assert {path.stem for path in (DEPLOY / "prometheus/targets").glob("*.yml")} == jobs


def test_hosts_that_are_one_machine_have_one_exporter() -> None:
    settings = Settings(ops={"workhorse": "a", "controltower": "b", "nervous": "b"})
    nodes = stack.targets(settings)["node"]
    assert [(node.address, node.labels["role"]) for node in nodes] == [
        ("a:9100", "workhorse"),
        ("b:9100", "controltower"),
    ]


def test_job_that_does_not_run_has_no_targets_and_an_unknown_one_is_refused() -> None:
    found = stack.targets(Settings(ops={"without": "airflow, grafana"}))
    assert [job for job, hosts in found.items() if not hosts] == ["airflow", "grafana", "site"]
    with pytest.raises(ConfigError, match="MARQUEE_OPS__WITHOUT names no job: kafka"):
        stack.targets(Settings(ops={"without": "kafka"}))


def test_job_is_found_where_it_is_said_to_be_and_an_unknown_one_is_refused() -> None:
    settings = Settings(
        ops={
            "nervous": "c",
            "site": "https://films.example.org",
            "addresses": "prometheus=prometheus:9090, node=exporter:9100, blackbox=box:9115, "
            "grafana=g:3000/g/m",
        }
    )
    found = stack.targets(settings)
    assert [(one.address, one.labels["host"]) for one in found["prometheus"]] == [("prometheus:9090", "c")]
    assert [one.address for one in found["node"]] == ["exporter:9100"]
    assert found["loki"][0].address == "c:3100"
    assert found["grafana"][0].address == "g:3000"
    assert found["grafana"][0].labels["__metrics_path__"] == "/g/m"
    assert found["site"][0].labels["__exporter__"] == "box:9115"
    for wrong in ("kafka=a:1", "loki=a", "loki"):
        with pytest.raises(ConfigError, match="MARQUEE_OPS__ADDRESSES does not name"):
            stack.targets(Settings(ops={"addresses": wrong}))


def test_local_targets_are_what_runs() -> None:
    settings = Settings(port=9000, api={"ops_port": 9001}, host="0.0.0.0")
    program = stack.Program("node", ("node",), 9100, "MARQUEE_OPS__NODE_PORT", {}, Path("/"))
    found = {
        job: [t.address for t in targets] for job, targets in stack.local_targets(settings, [program]).items()
    }
    assert {job: addresses for job, addresses in found.items() if addresses} == {
        "marquee-api": ["127.0.0.1:9001"],
        "marquee-worker": ["127.0.0.1:9002"],
        "node": ["127.0.0.1:9100"],
    }


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:9090"), ("nervous.internal", "nervous.internal:9090")]
)
def test_url_of_prometheus(host: str, address: str) -> None:
    assert stack.prometheus_url(Settings(ops={"nervous": host})) == f"http://{address}"


def test_prometheus_that_is_away_is_named() -> None:
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:9"):
        stack.read_state("http://127.0.0.1:9")
