"""The files of deploy/compose: Compose takes them, and they keep their word on ports, rights, secrets."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from marquee.config import Settings
from marquee.monitoring import stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts run Linux")

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "deploy" / "compose"
EXAMPLE = COMPOSE / ".env.example"
ROLES = ("all-in-one", "workhorse", "controltower", "nervous")
AGENT_PORTS = {9100, 8080, 12345}
"""What the exporters of agent.yml listen on, two of them on the host's own network."""
NOT_OURS = {"COMPOSE_FILE", "COMPOSE_PROFILES", "MARQUEE_REGISTRY"}
"""Variables that Compose itself reads, or that only appear within another's default."""
ADDRESSES = {"workhorse": "10.0.0.11", "controltower": "10.0.0.12", "nervous": "10.0.0.13"}
PASSED_ON = re.compile(r"^\s+([A-Z][A-Z0-9_]+):\s*$", re.MULTILINE)
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)")
NAMES_A_FILE = re.compile(
    r"""/run/secrets/[a-z0-9-]+|sh -c 'printf %s "\$+\(cat /run/secrets/[a-z0-9-]+\)"'"""
)
SET = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]*)=", re.MULTILINE)

Config = dict[str, Any]


@pytest.fixture(scope="session")
def run_compose(docker_compose: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Let Compose look at a file, with the variables of a file and nothing else."""

    def run(name: str, env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [
            docker_compose,
            "--env-file",
            env_file,
            "-f",
            COMPOSE / f"{name}.yml",
            *arguments,
        ]
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(command, capture_output=True, text=True, env=clean, timeout=60, check=False)

    return run


@pytest.fixture(scope="session")
def configs(
    run_compose: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Config]:
    """What each role's file comes to, with all profiles, after its `init`; `agent` is that of workhorse."""
    found = {}
    for role in ROLES:
        folder = tmp_path_factory.mktemp(role)
        make_env(folder, role)
        for name in (role, "agent") if role == "workhorse" else (role,):
            profiles = ("--profile", "*")
            done = run_compose(name, folder / ".env", *profiles, "config", "--format", "json")
            assert done.returncode == 0, f"{name}: {done.stderr}"
            assert "warn" not in done.stderr.lower(), done.stderr
            found[name] = json.loads(done.stdout)
    return found


@pytest.fixture(params=[*ROLES, "agent"])
def config(request: pytest.FixtureRequest, configs: dict[str, Config]) -> Config:
    """One of them."""
    return configs[request.param]


def test_each_variable_is_explained_and_each_explained_one_used() -> None:
    files = sorted(COMPOSE.glob("*.yml"))
    used = {name for file in files for name in VARIABLE.findall(uncommented(file))}
    used |= {name for file in files for name in PASSED_ON.findall(uncommented(file))}
    explained = SET.findall(EXAMPLE.read_text())
    assert len(explained) == len(set(explained)), "one is explained twice"
    assert set(explained) - used <= NOT_OURS
    assert used - set(explained) == set()


def test_explained_default_is_the_one_in_the_files() -> None:
    text = "\n".join(uncommented(file) for file in COMPOSE.glob("*.yml"))
    for name, value in re.findall(r"^# ([A-Z0-9_]+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE):
        defaults = re.findall(rf"\$\{{{name}:-([^${{}}]+)\}}", text)
        if not value.startswith("e.g. ") and defaults:
            assert set(defaults) == {value}, name


def test_setting_that_is_passed_on_is_one_of_marquee() -> None:
    fields = {"MARQUEE_" + path for path in setting_names(Settings)}
    for file in COMPOSE.glob("*.yml"):
        for name in re.findall(r"^\s+(MARQUEE_[A-Z0-9_]+):", uncommented(file), re.MULTILINE):
            if name not in {
                "MARQUEE_API_URL",
                "MARQUEE_AGENT_HOST",
                "MARQUEE_LOG_FILES",
                "MARQUEE_DASHBOARDS",
            }:
                assert name in fields, f"{file.name}: {name}"


def test_version_is_the_one_of_this_release() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"\nMARQUEE_VERSION={project['version']}\n" in EXAMPLE.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_what_must_be_set_is_asked_for_by_name(
    role: str, run_compose: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    make_env(tmp_path, role)
    env = tmp_path / ".env"
    whole = env.read_text()
    required = {
        name
        for file in COMPOSE.glob("*.yml")
        if role == "all-in-one" or file.stem == role
        for name in re.findall(r"\$\{([A-Z0-9_]+):\?", uncommented(file))
    }
    assert len(required) >= 4
    # Of the ports that one host does not publish, it needs no address.
    for name in sorted(required):
        env.write_text(re.sub(rf"^{name}=.*\n", "", whole, flags=re.MULTILINE))
        done = run_compose(role, env, "config", "--quiet")
        assert done.returncode != 0, name
        assert re.search(rf"required variable {name} is missing a value: .+see \.env\.example", done.stderr)


@pytest.mark.parametrize("role", ROLES)
def test_published_ports_are_those_of_the_hosts(role: str, configs: dict[str, Config]) -> None:
    hosts = json.loads((REPOSITORY / "deploy" / "hosts.json").read_text())
    open_ports = {entry["port"] for entry in hosts[role]} - {22}
    found = {port for port, _ in published(configs[role])}
    assert found == open_ports - AGENT_PORTS
    assert role == "all-in-one" or open_ports >= AGENT_PORTS


def test_exporters_listen_where_the_hosts_say(configs: dict[str, Config]) -> None:
    address = ADDRESSES["workhorse"]
    services = configs["agent"]["services"]
    assert published(configs["agent"]) == {(8080, address)}
    assert f"--web.listen-address={address}:9100" in services["node-exporter"]["command"]
    assert f"--server.http.listen-addr={address}:12345" in services["alloy"]["command"]


@pytest.mark.parametrize("role", ROLES)
def test_only_the_proxy_is_public(role: str, configs: dict[str, Config]) -> None:
    for name, service in configs[role]["services"].items():
        for port in service.get("ports", []):
            public = port.get("host_ip", "0.0.0.0") == "0.0.0.0"
            assert public == (name == "proxy"), f"{name} {port}"
            assert public or port["host_ip"] == ADDRESSES[role]


def test_every_service_is_bounded_and_kept_small(config: Config) -> None:
    for name, service in config["services"].items():
        assert service.get("read_only", False) is (name != "gate"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] in ("unless-stopped", "on-failure:3"), name
        assert int(service["mem_limit"]) > 0, name
        assert float(service["cpus"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert not service.get("privileged"), name
        if "cap_add" in service:
            assert name in {"gate", "proxy", "cadvisor", "alloy"}, name


def test_every_service_has_a_check_or_says_why_not(config: Config) -> None:
    for name, service in config["services"].items():
        checked = "test" in service.get("healthcheck", {})
        once = service["restart"].startswith("on-failure")
        assert checked or once or name in unchecked(), name
        for needed, how in service.get("depends_on", {}).items():
            other = config["services"][needed]
            wanted = (
                "service_completed_successfully"
                if other["restart"].startswith("on-failure")
                else "service_healthy"
            )
            assert how["condition"] == wanted, f"{name} → {needed}"


def test_no_secret_is_told_in_the_environment(config: Config) -> None:
    for name, service in config["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY|CREDENTIALS|WEBHOOK", variable)
            if secret and value and not variable.startswith("AIRFLOW__SECRETS__"):
                assert NAMES_A_FILE.fullmatch(value), f"{name} {variable}"
            assert not re.search(r"://[^/@\s]+:[^/@\s]+@", value or ""), f"{name} {variable}"


def test_secret_that_is_named_is_one_that_the_service_is_given(config: Config) -> None:
    for name, service in config["services"].items():
        given = {secret["source"] for secret in service.get("secrets", [])}
        text = json.dumps([service.get("environment"), service.get("command"), service.get("entrypoint")])
        # `render` writes these names into a file for Alertmanager.
        by = config["services"]["alertmanager"] if name == "render" else service
        given |= {secret["source"] for secret in by.get("secrets", [])}
        assert set(re.findall(r"/run/secrets/([a-z0-9-]+)", text)) <= given, name


def test_file_that_is_mounted_is_there(config: Config) -> None:
    for name, service in config["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and volume["source"].startswith(str(REPOSITORY)):
                assert Path(volume["source"]).exists(), f"{name} {volume['source']}"
                assert volume["read_only"], name


def test_database_and_airflow_are_on_networks_that_lead_nowhere(configs: dict[str, Config]) -> None:
    services, networks = configs["all-in-one"]["services"], configs["all-in-one"]["networks"]
    for name in ("postgres", "mlflow", "web", "airflow-postgres", "airflow-api-server"):
        for network in services[name]["networks"]:
            assert networks[network]["internal"], name
    with_airflow = {name for name, service in services.items() if "airflow" in service["networks"]}
    assert {name for name in with_airflow if not name.startswith("airflow-")} == {"proxy"}


def test_images_are_pinned_by_a_tag_that_is_not_latest(config: Config) -> None:
    for name, service in config["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert "/" not in tag, name
        assert tag not in {"latest", "main", "master"}, name


def test_image_of_ours_that_cannot_be_fetched_is_built_by_one_service(config: Config) -> None:
    """By several at once it would be built several times, and newer engines refuse the second."""
    builders: dict[str, list[Any]] = {}
    for service in config["services"].values():
        builders.setdefault(service["image"], []).extend([service["build"]] if "build" in service else [])
    for image, found in builders.items():
        name = image.partition(":")[0].rpartition("/")[2]
        if not (REPOSITORY / f"deploy/docker/{name}.Dockerfile").is_file():
            assert not found
            continue
        [build] = found
        assert Path(build["context"]) == REPOSITORY
        assert build["dockerfile"] == f"deploy/docker/{name}.Dockerfile"
        assert build["args"] == {"VERSION": image.partition(":")[2]}, "else as the Dockerfile has them"


def test_bases_of_what_is_built_here_can_be_those_of_a_mirror(
    run_compose: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    bases = {name: f"mirror.test/{name.lower()}" for name in ("BASE_IMAGE", "CADDY_IMAGE", "NODE_IMAGE")}
    make_env(tmp_path, "all-in-one")
    with (tmp_path / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in bases.items())
    config = run_compose("all-in-one", tmp_path / ".env", "config", "--format", "json").stdout
    given: dict[str, str] = {}
    for service in json.loads(config)["services"].values():
        given |= service.get("build", {}).get("args", {})
    assert given.items() >= bases.items()


def test_nothing_tells_its_maker_anything(configs: dict[str, Config]) -> None:
    services = configs["all-in-one"]["services"]
    grafana, mlflow = services["grafana"]["environment"], services["mlflow"]["environment"]
    for name in ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES"):
        assert grafana[f"GF_ANALYTICS_{name}"] == "false"
    assert mlflow["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert services["airflow-scheduler"]["environment"]["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert "--disable-reporting" in services["alloy"]["command"]


@pytest.mark.parametrize("role", ["all-in-one", "nervous"])
def test_prometheus_finds_what_runs(role: str, configs: dict[str, Config]) -> None:
    environment = configs[role]["services"]["render"]["environment"]
    settings = {
        name.removeprefix("MARQUEE_OPS__").lower(): value
        for name, value in environment.items()
        if name.startswith("MARQUEE_OPS__") and value is not None
    }
    found = stack.targets(Settings(ops=settings))
    services = configs[role]["services"]
    for job, targets in found.items():
        assert targets, job
        for target in targets:
            host, _, port = target.address.rpartition(":")
            if job == "site":
                assert target.labels["__exporter__"] == "blackbox:9115"
            elif role == "all-in-one":
                assert host in services, job
            else:
                assert host in services or host in ADDRESSES.values(), job
                assert host in services or int(port) in {*AGENT_PORTS, 8000, 8001, 9102, 9187}, job


def test_one_host_has_every_service_of_the_three(configs: dict[str, Config]) -> None:
    three = {name for role in (*ROLES[1:], "agent") for name in configs[role]["services"]}
    assert set(configs["all-in-one"]["services"]) == three


def test_drift_is_answered_by_airflow_or_by_the_worker_and_not_by_both(configs: dict[str, Config]) -> None:
    services = configs["all-in-one"]["services"]
    assert (
        services["airflow-scheduler"]["environment"]["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"
    )
    assert (REPOSITORY / "dags/marquee_retrain_on_drift.py").exists()
    for name in ("worker", "first-models", "schedule"):
        assert services[name]["environment"]["MARQUEE_MONITOR__RETRAIN"] == "false", name


def make_env(folder: Path, role: str) -> None:
    """What `deploy/bin/init` makes for a role."""
    hosts = [part for name, address in ADDRESSES.items() for part in (f"--{name}", address)]
    (folder / "operator.key").write_text("0123456789abcdef" * 4)
    of_three = ["--private-address", ADDRESSES[role], *hosts] if role != "all-in-one" else []
    command: list[str | Path] = [
        REPOSITORY / "deploy/bin/init",
        "--folder",
        folder,
        "--role",
        role,
        "--site",
        "films.example.org",
    ]
    command += ["--operator-key", folder / "operator.key", *of_three]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr


def published(config: Config) -> set[tuple[int, str | None]]:
    """Port and address of each port that is published."""
    return {
        (int(port["published"]), port.get("host_ip"))
        for service in config["services"].values()
        for port in service.get("ports", [])
    }


def unchecked() -> set[str]:
    """Services that say why they have no check."""
    files = [COMPOSE / f"{name}.yml" for name in (*ROLES[1:], "agent")]
    services = [pair for file in files for pair in yaml.safe_load(file.read_text())["services"].items()]
    return {name for name, service in services if len(service.get("x-unchecked", "")) > 20}


def uncommented(file: Path) -> str:
    """A file without its comments."""
    return "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))


def setting_names(model: Any) -> set[str]:
    """Names of variables of a model of settings, without the first part."""
    found: set[str] = set()
    for name, about in model.model_fields.items():
        inner = about.annotation
        if hasattr(inner, "model_fields"):
            found |= {f"{name.upper()}__{rest}" for rest in setting_names(inner)}
        else:
            found.add(name.upper())
    return found
