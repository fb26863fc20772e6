"""What of the stack's configuration depends on where things run."""

import os
import subprocess
import sys
import zipfile
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


def test_defaults_are_what_is_checked_in(tmp_path: Path) -> None:
    settings = Settings()
    stack.render(tmp_path, stack.targets(settings), settings.ops)
    for path in (DEPLOY / "prometheus/targets").glob("*.yml"):
        made = yaml.safe_load((tmp_path / "prometheus/targets" / path.name).read_text("utf-8"))
        assert made == yaml.safe_load(path.read_text("utf-8")), path.name
    for name in ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml"):
        made = yaml.safe_load((tmp_path / name).read_text("utf-8"))
        assert made == yaml.safe_load((DEPLOY / name).read_text("utf-8")), name
    assert (tmp_path / "loki/rules/fake/logs.yml").read_text() == (DEPLOY / "loki/rules/logs.yml").read_text()


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


@pytest.mark.slow
def test_wheel_brings_the_configuration(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=DEPLOY.parent, check=True, capture_output=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    ask = "from marquee.monitoring.stack import deploy_folder; print(deploy_folder())"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder = Path(done.stdout.strip())
    assert folder == tmp_path / "installed" / "marquee" / "deploy"
    for path in (DEPLOY / "prometheus/rules").glob("*.yml"):
        assert (folder / "prometheus/rules" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "loki/rules/logs.yml").is_file()
