"""The images of deploy/docker, built and run."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from engine import BASES, LABELS, REPOSITORY, Engine
from free_ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

LARGEST_API = 450e6
TOOLS = ("cc", "gcc", "g++", "ld", "strip", "make", "pip", "pip3", "uv", "git", "curl", "npm", "node")
CANARY = "canary-5f1c2e"
HIDDEN = (
    ".env",
    ".git/config",
    "deploy/compose/.env",
    "deploy/compose/secrets/postgres-password",
    "deploy/alertmanager/secrets/slack",
    "deploy/docker/server.key",
    "src/marquee/.env.local",
    "src/marquee/api/site_files/index.html",
    "src/debug.log",
    "tests/anything.py",
    "web/node_modules/left-pad/index.js",
    "web/.env.production",
    "ratings.csv",
)
# As Compose runs them: nothing can be written but the home and /tmp, and no right is left.
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
OPERATOR_KEY = "mq_" + "0123456789abcdef" * 4
FIRST_MODELS = """
marquee pipeline run --model mlp
marquee train --model ease
marquee promote
"""


@pytest.fixture
def images(built_engine: Engine) -> Iterator[Engine]:
    """The engine on this machine's network, as builds need it, with our images."""
    built_engine.for_builds()
    yield built_engine
    built_engine.sweep()


@pytest.fixture(params=sorted(BASES))
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inside(engine: Engine, image: str, *command: str) -> str:
    """What a command in an image prints, without a network."""
    name, *arguments = command
    start = ["run", "--rm", "--network", "none", *HARDENED, "--entrypoint", name]
    return engine.docker(*start, engine.images[image], *arguments)


def test_api_image_is_small(images: Engine) -> None:
    assert images.inspect(images.images["api"])["Size"] <= LARGEST_API


def test_image_runs_as_a_user_who_can_change_nothing_in_it(images: Engine, image: str) -> None:
    assert images.inspect(images.images[image])["Config"]["User"] == "10001:10001"
    assert inside(images, image, "id", "-u") == "10001"
    assert "marquee:x:10001:" in inside(images, image, "cat", "/etc/passwd")
    writable = (
        "find / -xdev -writable ! -type l ! -path '/proc/*' ! -path '/dev/*' ! -path '/sys/*' 2>/dev/null"
    )
    found = images.docker(
        *("run", "--rm", "--network", "none", "--entrypoint", "sh"),
        images.images[image],
        "-c",
        f"{writable}; true",
    )
    assert set(found.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/var/lib/marquee", "/var/lib/airflow"}


def test_image_holds_nothing_to_build_or_to_install_with(images: Engine, image: str) -> None:
    script = f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true"
    assert inside(images, image, "sh", "-c", script) == ""
    if image != "web":
        modules = "print([name for name in ('pip', 'ensurepip', 'hatchling') if find_spec(name)])"
        assert (
            inside(images, image, "python", "-c", f"from importlib.util import find_spec; {modules}") == "[]"
        )


def test_image_is_labelled_with_what_it_was_built_from(images: Engine, image: str) -> None:
    labels = images.inspect(images.images[image])["Config"]["Labels"]
    assert {name: labels[f"org.opencontainers.image.{name.lower()}"] for name in LABELS} == LABELS
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_builder_is_sent_no_secret_and_no_data(images: Engine, tmp_path: Path) -> None:
    """With all of them lying in the tree, even so deep that a list of names is put to the test."""
    for file in HIDDEN:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(CANARY)
    (tmp_path / "src/marquee/store").mkdir(parents=True)
    (tmp_path / "src/marquee/store/secrets.py").write_text("wanted")
    shutil.copy(REPOSITORY / ".dockerignore", tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM python:3.13-slim-bookworm\nCOPY . /context\n")
    images.docker("build", "-q", "--network", "host", "-t", "marquee-context:test", tmp_path)
    found = images.docker(
        "run", "--rm", "--network", "none", "marquee-context:test", "find", "/context", "-type", "f"
    )
    images.docker("rmi", "marquee-context:test")
    assert found.split() == ["/context/src/marquee/store/secrets.py"]


def test_history_of_an_image_holds_no_secret(images: Engine, image: str) -> None:
    history = images.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", images.images[image])
    environment = images.inspect(images.images[image])["Config"]["Env"]
    assert not re.search(
        r"(password|secret|token|_key)\s*[=:]\s*\S", f"{history}\n{environment}", re.IGNORECASE
    )
    assert "://" not in "\n".join(environment)


def test_image_passes_what_each_change_tries_it_with(images: Engine, image: str) -> None:
    """The same that CI asks of images on their public bases."""
    script = REPOSITORY / "deploy/ci/try_image.sh"
    ended = subprocess.run(
        [script, image, images.images[image]],
        env=images.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith(f"{image} is well\n")
    assert images.docker("ps", "-q") == ""


def test_image_that_lacks_what_it_is_for_is_refused(images: Engine) -> None:
    script = REPOSITORY / "deploy/ci/try_image.sh"
    for image, other in (("worker", "api"), ("airflow", "api"), ("api", "worker")):
        command = [script, image, images.images[other]]
        assert subprocess.run(command, env=images.environment, capture_output=True, check=False).returncode


def test_web_image_serves_the_site(images: Engine) -> None:
    port = free_port()
    start = ["run", "-d", "--name", "web", "--network", "host", *HARDENED, "-e", f"WEB_PORT={port}"]
    images.docker(
        *start, "--health-cmd", f"wget -q -O /dev/null http://127.0.0.1:{port}/healthz", images.images["web"]
    )
    images.wait_healthy("web", 60)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        page = client.get("/films/27205", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        script = re.search(r'src="(/assets/[^"]+\.js)"', page.text)
        assert script is not None
        asset = client.get(script.group(1), headers={"accept-encoding": "br"})
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get("/v1/none").status_code == 404
    images.docker("stop", "-t", "20", "web")
    assert images.inspect("web")["State"]["ExitCode"] == 0


@pytest.fixture
def fresh_url(server_url: str) -> Iterator[str]:
    """An empty database of a real server on this machine."""
    name = f"images_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server_url.rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_worker_makes_a_model_that_the_api_serves(images: Engine, fresh_url: str, tmp_path: Path) -> None:
    """From nothing, each in its own image with nothing but a volume and a database to share."""
    port = free_port()
    user, _, address = fresh_url.partition("@")
    scheme, _, password = user.rpartition(":")
    secrets = {"operator-key": OPERATOR_KEY, "postgres-password": password}
    for name, value in secrets.items():
        (tmp_path / name).write_text(f"{value}\n")
        (tmp_path / name).chmod(0o444)
    tmp_path.chmod(0o755)
    settings = {
        "DATABASE__URL": f"{scheme}@{address}",
        "DATABASE__PASSWORD_FILE": "/run/secrets/postgres-password",
        "OPERATOR_KEY_FILE": "/run/secrets/operator-key",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    flags = ["--network", "host", *HARDENED, "-v", "home:/var/lib/marquee"]
    for name in secrets:
        flags += ["-v", f"{tmp_path / name}:/run/secrets/{name}:ro"]
    for name, value in settings.items():
        flags += ["-e", f"MARQUEE_{name}={value}"]
    train = ["run", "--rm", *flags, "--entrypoint", "sh", images.images["worker"], "-ec", FIRST_MODELS]
    images.docker(*train, timeout=600)
    images.docker("run", "-d", "--name", "api", *flags, images.images["api"])
    images.wait_healthy("api")
    headers = {"authorization": f"Bearer {OPERATOR_KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
        ready = client.get("/readyz").json()
        assert (ready["status"], ready["lacks"]) == ("ready", [])
        listed = client.get("/v1/users/1/recommendations").json()
        assert listed["items"]
        assert "ease" in listed["bundle"]
        film = client.get("/available-content-ids").json()["available_content_ids"][0]
        event = {"user_id": 1, "content_id": film, "watch_seconds": 5400, "rating": 8.5, "popularity": 83.9}
        answer = client.post("/predict", json=event)
        assert answer.status_code == 200, answer.text
    began = time.monotonic()
    images.docker("stop", "-t", "60", "api")
    assert time.monotonic() - began < 60, "it was killed, not stopped"
    assert images.inspect("api")["State"]["ExitCode"] == 0
    log = images.docker("logs", "api")
    assert OPERATOR_KEY not in log
    assert password not in log


def test_compose_builds_what_cannot_be_fetched(built_engine: Engine, tmp_path: Path) -> None:
    init = [str(REPOSITORY / "deploy/bin/init"), "--folder", str(tmp_path), "--version", "test-compose"]
    subprocess.run([*init, "--registry", "localhost/marquee"], check=True, stdin=subprocess.DEVNULL)
    built_engine.for_builds()
    flags = [part for pair in BASES["web"].items() for part in ("--build-arg", "=".join(pair))]
    files = ("--env-file", tmp_path / ".env", "-f", REPOSITORY / "deploy/compose/all-in-one.yml")
    built_engine.compose(*files, "build", *flags, "web")
    labels = built_engine.inspect("localhost/marquee/web:test-compose")["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "test-compose"
