"""
`deploy/bin/release` and `up` with the real Compose and no engine: what files they take, what they leave.

With a real engine tests/docker does a release, under load, and several that fail.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts run Linux")

REPOSITORY = Path(__file__).parents[2]
HOSTS = ("--workhorse", "10.0.0.11", "--controltower", "10.0.0.12", "--nervous", "10.0.0.13")
DOCKER = """#!/usr/bin/env bash
# In the place of an engine a folder: a file for each container, with the hash of what it was made of.
set -e
containers=$ENGINE/containers
case $1 in
  compose)
    options=() && shift
    while [[ ${1-} = -* ]]; do options+=("$1" "$2") && shift 2; done
    [[ "${options[*]}" != */agent.yml ]] || containers=$ENGINE/agent
    echo "$*" >>"$ENGINE/log"
    case $1 in
      config) "$REAL" "${options[@]}" "$@" ;;
      build) "$REAL" "${options[@]}" config --images >>"$ENGINE/built" ;;
      ps) (cd "$containers" && ls ${3+"$3"} 2>/dev/null || true) ;;
      up)
        for service in "${@:2}"; do
          [[ $service = -* ]] || "$REAL" "${options[@]}" config --hash "$service" >"$containers/$service"
        done
        ;;
    esac
    ;;
  inspect)
    case $3 in
      *oneoff*) printf '%s\\n' "${@:4}" ;;
      *config-hash*) cut -d' ' -f2 "$containers/$4" ;;
      *StartedAt*) echo 2026-01-01T00:00:00Z ;;
      *Status*) cat "$ENGINE/states/$4" 2>/dev/null || echo 'running - 0 0' ;;
      *Image*) echo sha256:before ;;
    esac
    ;;
  image) [[ "$*" != *RepoDigests* ]] || echo "sha256:of-${*: -1}" ;;
esac
"""


class Host:
    """A checkout, a `docker` that has no engine, and what it was asked for."""

    def __init__(self, folder: Path, real: Path) -> None:
        self.folder = folder
        self.compose = folder / "deploy" / "compose"
        self.env = self.compose / ".env"
        mine = shutil.ignore_patterns(".env", "secrets", "*.log")
        for name in ("bin", "compose"):
            shutil.copytree(REPOSITORY / "deploy" / name, folder / "deploy" / name, ignore=mine)
        for name in ("path", "containers", "states", "agent"):
            (folder / name).mkdir()
        (folder / "path/docker").write_text(DOCKER)
        (folder / "path/docker").chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'path'}:{os.environ['PATH']}",
            "ENGINE": str(folder),
            "REAL": str(real),
        }

    def begin(self, role: str) -> None:
        (self.folder / "operator.key").write_text("k" * 64)
        own = dict(zip(HOSTS[::2], HOSTS[1::2], strict=True))[f"--{role}"]
        options = ("--role", role, "--site", "films.example.org", "--private-address", own, *HOSTS)
        done = self.run("init", *options, "--operator-key", str(self.folder / "operator.key"))
        assert done.returncode == 0, done.stdout

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "deploy/bin" / program, *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("release", "--smoke", "none", *arguments)

    def docker(self, *arguments: str) -> None:
        """What somebody does by hand in the folder of the files."""
        environment = {**os.environ, **self.environment}
        subprocess.run(["docker", *arguments], cwd=self.compose, env=environment, check=True)

    def set(self, name: str, value: str) -> None:
        """A line of .env; the last one counts."""
        with self.env.open("a") as file:
            file.write(f"{name}={value}\n")

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, docker_compose: Path) -> Host:
    return Host(tmp_path, docker_compose)


@pytest.mark.slow
def test_what_is_left_alone_is_named_where_it_is_not_as_the_files_have_it(host: Host) -> None:
    host.begin("controltower")
    host.docker("compose", "up", "proxy", "airflow-postgres")
    done = host.release("--same")
    assert done.returncode == 0, done.stdout
    assert "NOT APPLIED" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith("Done. Back again: deploy/bin/release --back")

    host.set("MARQUEE_PROXY_MEMORY", "300m")
    done = host.release("--same")
    assert done.returncode == 0, done.stdout
    assert "docker compose up -d --no-deps proxy\n" in done.stdout
    assert "Done, but not applied: proxy." in done.stdout.splitlines()[-1]
    assert "done, not applied: proxy:" in (host.compose / "releases.log").read_text().splitlines()[-1]
    assert not [line for line in host.log() if line.startswith("up -d") and "proxy" in line]

    host.docker("compose", "up", "proxy")
    assert "NOT APPLIED" not in host.release("--same").stdout


def test_work_that_failed_is_not_well_and_is_not_waited_for(host: Host) -> None:
    host.begin("nervous")
    (host.folder / "states/render").write_text("exited once 1 0")
    begun = time.monotonic()
    done = host.release("--same")
    assert done.returncode == 5, done.stdout
    assert "render is not well: exited once 1 0" in done.stdout
    assert time.monotonic() - begun < 60


def test_images_that_are_built_are_named_by_their_version(host: Host) -> None:
    """Of a release before, .env holds what the files would name them by."""
    host.begin("nervous")
    host.set("MARQUEE_API_IMAGE", "sha256:before")
    done = host.release("--build", "0.9.1")
    assert done.returncode == 0, done.stdout
    ours = [name for name in (host.folder / "built").read_text().splitlines() if "marquee/" in name]
    assert set(ours) == {"localhost/marquee/api:0.9.1"}
    said = host.env.read_text()
    assert "\nMARQUEE_VERSION=0.9.1\n" in said
    assert "\nMARQUEE_API_IMAGE=sha256:of-localhost/marquee/api:0.9.1\n" in said
    assert host.run("release", "--build").returncode == 2


def test_what_every_host_runs_besides_is_released_where_it_runs(host: Host) -> None:
    host.begin("nervous")
    assert host.release("--same").returncode == 0
    assert not any("alloy" in line for line in host.log())
    (host.folder / "agent/alloy").touch()
    assert host.release("--same").returncode == 0
    [started] = [line for line in host.log() if line.startswith("up -d") and "alloy" in line]
    assert set(started.split()) == {"up", "-d", "--no-deps", "alloy", "cadvisor", "node-exporter"}


def test_file_of_ones_own_is_taken_by_release_and_up(host: Host) -> None:
    host.begin("nervous")
    (host.compose / "my.yml").write_text(
        "services: {mine: {image: mine:1}, loki: {environment: {MINE: '1'}}}\n"
    )
    host.set("COMPOSE_FILE", "nervous.yml:my.yml")
    assert host.release("--same").returncode == 0
    assert [line for line in host.log() if line.startswith("up -d") and "mine" in line.split()]

    done = host.run("up", "nervous", "--dry-run")
    assert done.returncode == 0, done.stdout
    files = "-f deploy/compose/nervous.yml -f deploy/compose/my.yml"
    assert f"start the services: docker compose {files} up -d" in done.stdout
    assert "start the services: docker compose -f deploy/compose/agent.yml up -d" in done.stdout


def test_up_is_refused_for_another_role_than_that_of_the_host(host: Host) -> None:
    host.begin("nervous")
    before = host.env.read_text(), sorted((host.compose / "secrets").iterdir())
    done = host.run("up", "workhorse")
    assert done.returncode == 1
    assert "not for workhorse: deploy/compose/.env says COMPOSE_FILE=nervous.yml" in done.stdout
    assert (host.env.read_text(), sorted((host.compose / "secrets").iterdir())) == before
