"""
Everything on one host, as `deploy/bin/init` and Compose leave it: killed, upgraded, rolled back, lost.

PostgreSQL, the API, the worker, MLflow, Airflow, the site, the gate and the proxy are real. The object store
is real, too, though OpenStack Swift and not VersityGW. Stand-ins (standins/) answer for what else cannot
be fetched here; other tests check their configuration.
"""

import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine
from stack import ONCE, SITE, Load, Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "deploy" / "compose" / ".env.example"
STANDINS = Path(__file__).parent / "standins"
POSTGRES = "postgres:18-trixie"
BROKEN = {
    "ends-at-once": "false",
    "never-ready": "sleep 600",
    "recommends-nothing": "python3 /answers.py",
}
"""What broken images of the API do, by their tags."""
OURS = ("api", "worker", "web", "airflow")
REGISTRY = "localhost/marquee"
"""What our images are called where nobody says otherwise."""
# The engine's root is not shared, nor are all devices there; what these measure is not tested.
ON_THIS_MACHINE = """
services:
  node-exporter: {volumes: !override []}
  cadvisor: {volumes: !override [], devices: !override []}
"""


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One command after `deploy/bin/init`: a system with models. `pytest -rP` shows how long that took."""
    make_images(engine)
    stack = Stack(engine, tmp_path_factory.mktemp("host"))
    mine = shutil.ignore_patterns(".env", "secrets", "*.log")
    shutil.copytree(REPOSITORY / "deploy", stack.checkout / "deploy", ignore=mine)
    (stack.folder / "here.yml").write_text(ON_THIS_MACHINE)
    both = stack.folder / "all-in-one.yml"
    both.write_text(both.read_text().replace("one-host.yml]", "one-host.yml, here.yml]"))
    made = stack.run("init", "--site", SITE, "--version", "test-1")
    assert made.returncode == 0, made.stdout
    with (stack.folder / ".env").open("a") as environment:
        environment.write(f"MARQUEE_LOG_FOLDER={stack.checkout}/log\n")
    engine.for_stacks()
    try:
        begun = time.monotonic()
        stack.compose("up", "-d")
        until(stack.answers, str)
        up = time.monotonic() - begun
        stack.await_well()
        well = time.monotonic() - begun
        sys.stdout.write(f"The site answers after {up:.0f} s, all is well after {well:.0f} s.\n")
        yield stack
    finally:
        engine.sweep()


def test_one_command_brings_up_a_site_with_models(stack: Stack) -> None:
    smoke = stack.run("smoke", "--insecure", "--connect", f"{stack.engine.address}:443", stack.url)
    assert smoke.returncode == 0, smoke.stdout
    with stack.client() as client:
        models = client.get("/api/info", extensions={"sni_hostname": SITE}).json()["models"]
        assert all(models.values()), models
    tracked = stack.tool("/mlflow/ajax-api/2.0/mlflow/registered-models/search")
    assert {model["name"] for model in tracked["registered_models"]} == {"marquee-mlp", "marquee-ease"}


def test_airflow_runs_the_nightly_pipeline(stack: Stack) -> None:
    """With the secrets that `init` made. Soon after midnight its scheduler begins one by itself as well."""
    until(lambda: stack.tool("/airflow/api/v2/dags")["total_entries"] == 4, str)
    assert stack.tool("/airflow/api/v2/importErrors")["import_errors"] == []
    stack.compose("exec", "-T", "airflow-scheduler", "airflow", "dags", "trigger", "marquee_pipeline")

    def runs() -> list[str]:
        found = stack.tool("/airflow/api/v2/dags/marquee_pipeline/dagRuns")["dag_runs"]
        return [run["state"] for run in found]

    until(lambda: set(runs()) == {"success"}, lambda: f"{runs()}\n{stack.compose('logs', '--tail', '40')}")


def test_what_a_new_system_has_made_is_in_the_archive(stack: Stack) -> None:
    until(lambda: stack.waiting() == 0, lambda: stack.compose("logs", "--tail", "50", "worker", "objects"))
    archived = stack.archived()
    kinds = {key.split("/")[0] for key in archived}
    assert kinds >= {"backups", "bundles", "predictions", "raw", "snapshots"}
    manifests = [key for key in archived if key.endswith(".manifest.json")]
    assert {key.split("/")[1] for key in manifests} == {"mlp", "ease"}
    newest, *_ = json.loads(stack.compose("exec", "-T", "worker", "marquee", "backup", "list", "--json"))
    assert newest["rows"] > 1_000, "the films, the audience and what it watched"
    sent = json.loads(stack.compose("exec", "-T", "worker", "marquee", "archive", "--json"))
    assert (sent["archive"], sent["lacking"], sent["refused"]) == ("s3://marquee", 0, {})


def test_up_on_a_host_that_is_up_finds_nothing_to_change(stack: Stack) -> None:
    before = running(stack)
    done = stack.run("up", "all-in-one", "--connect", f"{stack.engine.address}:443")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("Nothing had to be changed.\n"), done.stdout
    assert running(stack) == before


def test_only_the_proxy_can_be_reached(stack: Stack) -> None:
    published = {
        f"{service} {binding['HostPort']}"
        for service, known in stack.containers().items()
        for bindings in known["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert published == {"proxy 80", "proxy 443"}
    for port in (5432, 8000, 8001, 8080, 9090):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((stack.engine.address, port)) != 0, port


def test_no_service_can_do_more_than_it_needs(stack: Stack) -> None:
    files = (stack.folder / "secrets").iterdir()
    secrets = [word for path in files for word in path.read_text().split() if len(word) >= 20]
    for service, known in stack.containers().items():
        host = known["HostConfig"]
        assert host["ReadonlyRootfs"] or service == "gate", service
        assert host["CapDrop"] == ["ALL"], service
        assert host["Memory"] > 0, service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        told = json.dumps([known["Config"]["Env"], known["Config"]["Cmd"], known["Config"]["Entrypoint"]])
        assert not [secret for secret in secrets if secret in told], service
    status = "cat /proc/1/status"
    for service in ("api", "worker", "web", "gate", "postgres", "mlflow"):
        said = stack.compose("exec", "-T", service, "sh", "-c", status)
        assert "CapPrm:\t0000000000000000" in said or service == "gate", service
        assert "NoNewPrivs:\t1" in said, service
        assert "\nUid:\t0" not in said, service


def test_a_process_that_is_killed_comes_back_healthy(stack: Stack) -> None:
    before = {name: known for name, known in stack.containers().items() if name not in ONCE}
    archived = stack.archived()
    for known in before.values():
        # Not `docker kill`, which the engine takes for the wish of a person and leaves it at that.
        os.kill(known["State"]["Pid"], signal.SIGKILL)
    until(
        lambda: all(
            known["RestartCount"] > 0 for name, known in stack.containers().items() if name in before
        ),
        str,
    )
    stack.await_well()
    after = stack.containers()
    assert all(after[name]["State"]["Pid"] != known["State"]["Pid"] for name, known in before.items())
    assert set(archived) <= set(stack.archived())
    smoke = stack.run("smoke", "--insecure", "--connect", f"{stack.engine.address}:443", stack.url)
    assert smoke.returncode == 0, smoke.stdout


def test_upgrade_under_load_fails_no_request(stack: Stack) -> None:
    with Load(stack) as load:
        done = stack.release(f"api={REGISTRY}/api:test-2", f"web={REGISTRY}/web:test-2")
    assert done.returncode == 0, done.stdout
    assert stack.image_of("api") == stack.image_of("web") == "test-2"
    assert stack.image_of("worker") == "test-1"
    assert not load.failures, f"{load.failures[:5]}\n{done.stdout}"
    assert min(load.answers.values()) > 20
    assert "NOT APPLIED" not in done.stdout


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_release_goes_back_by_itself_and_fails_no_request(stack: Stack, broken: str) -> None:
    before, serving = (stack.folder / ".env").read_text(), stack.image_of("api")
    with Load(stack) as load:
        done = stack.release(f"api={REGISTRY}/api:{broken}", seconds=10 if broken == "never-ready" else 60)
    assert done.returncode == 4, done.stdout
    assert stack.image_of("api") == serving
    assert not load.failures, f"{load.failures[:5]}\n{done.stdout}"
    assert (stack.folder / ".env").read_text() == before


@pytest.mark.parametrize("image", ["nowhere", "cannot-migrate"])
def test_image_that_is_not_there_or_cannot_migrate_changes_nothing(stack: Stack, image: str) -> None:
    before = {name: known["Id"] for name, known in stack.containers().items()}
    done = stack.release(f"api={REGISTRY}/api:{image}")
    assert done.returncode == 3, done.stdout
    assert {name: known["Id"] for name, known in stack.containers().items()} == before


def test_back_by_hand_fails_no_request(stack: Stack) -> None:
    if stack.image_of("api") == "test-1":  # this test is run alone
        stack.release(f"api={REGISTRY}/api:test-2", f"web={REGISTRY}/web:test-2")
    with Load(stack) as load:
        done = stack.release("--back")
    assert done.returncode == 0, done.stdout
    assert stack.image_of("api") == stack.image_of("web") == "test-1"
    assert not load.failures, f"{load.failures[:5]}\n{done.stdout}"


def test_file_of_ones_own_holds_for_releases_and_up_and_what_a_release_leaves_is_named(stack: Stack) -> None:
    env = stack.folder / ".env"
    before = env.read_text()
    (stack.folder / "mine.yml").write_text(
        "services: {web: {environment: {MINE: '1'}}, gate: {environment: {MINE: '1'}}}\n"
    )
    env.write_text(before.replace("COMPOSE_FILE=all-in-one.yml", "COMPOSE_FILE=all-in-one.yml:mine.yml"))
    up = ("up", "all-in-one", "--connect", f"{stack.engine.address}:443")
    try:
        done = stack.release("--same")
        assert done.returncode == 0, done.stdout
        assert "docker compose up -d --no-deps gate\n" in done.stdout
        assert stack.has_variable("web", "MINE=1")
        assert not stack.has_variable("gate", "MINE=1")
        done = stack.run(*up)
        assert done.returncode == 0, done.stdout
        assert stack.has_variable("web", "MINE=1")
        assert stack.has_variable("gate", "MINE=1")
    finally:
        env.write_text(before)
        done = stack.run(*up)
    assert done.returncode == 0, done.stdout
    assert not stack.has_variable("web", "MINE=1")


def test_lost_host_comes_back_from_the_archive(stack: Stack) -> None:
    """By the commands of the runbook. Only the archive is left, and what it says to keep elsewhere."""
    put_aside, bring_back = commands(REPOSITORY / "docs" / "runbooks" / "restore.md", "In containers")
    with stack.client() as visitor:
        site = {"sni_hostname": SITE}
        user = visitor.post("/api/v1/session", extensions=site).json()["user_id"]
        # The proxy's name is not that of the request, so the client does not send the cookie by itself.
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}
        liked = {"item_id": 155, "event": "like", "event_key": "before-the-loss"}
        sent = visitor.post("/api/v1/events", json=liked, headers=cookie, extensions=site)
        assert sent.status_code == 202, sent.text
        before = visitor.get("/api/info", extensions=site).json()["models"]
    counts = stack.counts()
    stack.compose("exec", "-T", "worker", "marquee", "backup")
    stack.shell(put_aside)
    until(lambda: stack.waiting() == 0, str)

    stack.compose("down")
    volumes = stack.engine.docker("volume", "ls", "-q").split()
    stack.engine.docker("volume", "rm", *(name for name in volumes if name != "marquee_objects"))
    said = stack.shell(bring_back)
    stack.await_well()

    assert stack.counts() == counts, said
    with stack.client() as visitor:
        assert visitor.get("/api/info", extensions=site).json()["models"] == before
        history = visitor.get(f"/api/v1/users/{user}/history", headers=cookie, extensions=site)
    assert [event["event_key"] for event in history.json()["events"]] == ["before-the-loss"], history.text


def make_images(engine: Engine) -> None:
    """Stand-ins for what the files name, two versions of ours, and three that are broken."""
    engine.stand_in(POSTGRES, (STANDINS / "postgres.Dockerfile").read_text(), [STANDINS / "postgres.sh"])
    engine.stand_in(
        "marquee-test/answers", (STANDINS / "answers.Dockerfile").read_text(), [STANDINS / "answers.py"]
    )
    swift = [REPOSITORY / "requirements-swift.lock", REPOSITORY / "tests" / "swift_server.py"]
    engine.stand_in(
        "marquee-test/versitygw",
        (STANDINS / "versitygw.Dockerfile").read_text(),
        [*swift, STANDINS / "versitygw.py"],
    )
    for image in OURS:
        engine.build(image)
        for version in ("test-1", "test-2"):
            label = f"LABEL org.opencontainers.image.version={version}"
            derive(engine, f"{REGISTRY}/{image}:{version}", engine.images[image], label)
    copied = "COPY --from=marquee-test/answers /answers.py /answers.py"
    for broken, command in BROKEN.items():
        # It can do what `migrate` asks of it, or nothing would be begun.
        script = f'[ "$1" != upgrade ] || exec marquee upgrade; exec {command}'
        start = f'ENTRYPOINT {json.dumps(["sh", "-c", script, "sh"])}\nCMD ["serve"]'
        derive(engine, f"{REGISTRY}/api:{broken}", engine.images["api"], f"{copied}\n{start}")
    no_migration = 'ENTRYPOINT ["false"]'
    derive(engine, f"{REGISTRY}/api:cannot-migrate", engine.images["api"], no_migration)
    here = {POSTGRES, "caddy:2.10-alpine"}
    for line in EXAMPLE.read_text().splitlines():
        name, _, image = line.removeprefix("# ").partition("=")
        if name.endswith("_IMAGE") and not image.startswith("e.g. ") and image not in here | {""}:
            stand_in = "versitygw" if name == "VERSITYGW_IMAGE" else "answers"
            engine.docker("tag", f"marquee-test/{stand_in}", image)


def commands(page: Path, title: str) -> list[str]:
    """The blocks of commands in a section of the docs."""
    section = page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def running(stack: Stack) -> dict[str, str]:
    return {name: known["Id"] for name, known in stack.containers().items() if name not in ONCE}


def derive(engine: Engine, name: str, base: str, lines: str) -> None:
    """An image that differs from another in a few lines."""
    engine.docker("build", "-q", "-t", name, "-", stdin=f"FROM {base}\n{lines}\n")
