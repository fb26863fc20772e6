"""
A Docker engine of the tests' own, and stand-ins for the public images that it cannot fetch.

No registry is asked for anything: a Debian is made by debootstrap from the mirror that this machine itself
uses, or from debootstrap's own where that is none of Debian, and images of the same names as the public ones
are built on it (`STAND_INS`). Their Python is 3.11 and their Caddy is Debian's: what is built on them shows
that our Dockerfiles work, not what public bases hold.

The engine runs in one of two modes, on one and the same data:

- *builds*: on this machine's network, since builds fetch packages; containers can only use `--network host`.
- *stacks*: in a network namespace of its own, with bridges, DNS by service name and published ports, and no
  way out. Ports that a container publishes on 0.0.0.0 or on `engine.address` answer at `engine.address` from
  the tests themselves, over a pair of virtual interfaces; the machine's own ports and firewall are untouched.

With the fixtures `engine` and `built_engine` of conftest.py::

    engine.build("api")
    engine.stand_in("postgres:18-trixie", "FROM marquee-test/debian\nRUN …", [file, …])
    engine.for_stacks()
    engine.docker("run", "-d", "-p", "8000:8000", engine.images["api"])
    engine.compose("-f", "deploy/compose/workhorse.yml", "up", "-d", env={…})
    httpx.get(f"http://{engine.address}:8000/livez")
    engine.sweep()

What was made is kept in `MARQUEE_TEST_DOCKER_CACHE` (default: ~/.cache/marquee-docker-tests), about 8 GB, so
that a second run within two days builds nothing anew; containers, volumes and networks are removed. Only one
engine may use the folder at a time; a second one waits.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

REPOSITORY = Path(__file__).parents[2]
DEBIAN = "marquee-test/debian"
"""The name of the stand-ins' own base."""
SUITE = "bookworm"
DEADLINE_SECONDS = 60

PYTHON = f"""
FROM {DEBIAN}
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3 python3-venv ca-certificates \
 && rm -rf /var/lib/apt/lists /var/cache/apt /usr/share/doc /usr/share/man /usr/share/locale \
 && mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
ENV {{environment}}
CMD ["python3"]
"""
NODE = """
FROM python:3.13-slim-bookworm
COPY requirements-node.lock /tmp/
RUN python3 -m venv /opt/node \
 && /opt/node/bin/pip install -q --no-deps --require-hashes -r /tmp/requirements-node.lock
ENV PATH=/opt/node/bin:$PATH
"""
CADDY = f"""
FROM {DEBIAN}
RUN apt-get update -q && apt-get install -q -y --no-install-recommends caddy wget \
 && rm -rf /var/lib/apt/lists/* /usr/share/doc
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
RUN mkdir -p /config/caddy /data/caddy /etc/caddy /usr/share/caddy
WORKDIR /srv
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""
STAND_INS = {"python:3.13-slim-bookworm": PYTHON, "node:22-bookworm-slim": NODE, "caddy:2.10-alpine": CADDY}
"""Dockerfiles by the name that they stand in for; in the context lie `ca.crt` and our lock files."""
BASES = {
    "api": {"BASE_IMAGE": "python:3.13-slim-bookworm"},
    "worker": {"BASE_IMAGE": "python:3.13-slim-bookworm"},
    "airflow": {"BASE_IMAGE": "python:3.13-slim-bookworm"},
    "web": {"BASE_IMAGE": "caddy:2.10-alpine", "NODE_IMAGE": "node:22-bookworm-slim"},
}
"""Build arguments that name stand-ins, by image of ours."""
LABELS = {"VERSION": "9.8.7", "REVISION": "0" * 40, "SOURCE": "https://example.org/marquee"}
"""Build arguments that say what an image of ours is made from."""

Mode = Literal["builds", "stacks"]


class UnavailableError(Exception):
    """No engine can run here; the text says why."""


class Engine:
    """
    A running engine, made by `start`; a context manager, which ends it and leaves nothing but the cache.

    Attributes:
        address: where published ports answer while the mode is stacks.
        gateway: this machine as containers see it while the mode is stacks.
        environment: of programs that talk to it by Docker's client.
        images: names of our images that were built, by folder name in deploy/docker.
        namespace: name of the network namespace, for `ip netns exec`.
    """

    def __init__(self, cache: Path | None = None) -> None:
        _require_programs()
        given = os.environ.get("MARQUEE_TEST_DOCKER_CACHE")
        self.cache = cache or Path(given or Path.home() / ".cache/marquee-docker-tests")
        self.cache.mkdir(parents=True, exist_ok=True)
        self.images: dict[str, str] = {}
        self.mode: Mode | None = None
        self.namespace = f"marquee-{os.getpid()}"
        self.gateway, self.address = _free_link()
        self._lock = (self.cache / "lock").open("a+")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._lock.seek(0)
        for line in self._lock.read().splitlines():  # of one that was killed before it could end
            _clear(Path(line.split()[0]), self.cache / "data", line.split()[1])
        self._run = Path(tempfile.mkdtemp(prefix="mqd-"))  # short: names of sockets may have 107 letters
        self._lock.truncate(0)
        self._lock.write(f"{self._run} {self.namespace}\n")
        self._lock.flush()
        self._daemon: subprocess.Popen[bytes] | None = None
        self.environment = self._client_environment()

    @classmethod
    def start(cls, cache: Path | None = None) -> Self:
        """
        Start one in mode builds and make the stand-ins; `cache` is the folder of what is kept.

        Raises:
            UnavailableError: when something is missing here.
        """
        engine = cls(cache)
        try:
            _add_namespace(engine.namespace, engine.gateway, engine.address)
            engine.for_builds()
            engine.sweep()
            engine._make_stand_ins()
        except BaseException:
            engine.close()
            raise
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def for_builds(self) -> None:
        """Run on this machine's network, unless it does; no container may be running."""
        self._switch("builds")

    def for_stacks(self) -> None:
        """Run in the namespace, unless it does; no container may be running."""
        self._switch("stacks")

    def docker(
        self,
        *arguments: str | Path,
        check: bool = True,
        timeout: float = 900,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path = REPOSITORY,
    ) -> str:
        """
        What a command of Docker's client prints (both streams).

        Raises:
            AssertionError: when it fails, with what it has printed, unless `check` is off.
        """
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            cwd=cwd,
            env={**self.environment, **(env or {})},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout}"
        return done.stdout.strip()

    def compose(self, *arguments: str | Path, **options: Any) -> str:
        """The same of `docker compose`."""
        return self.docker("compose", *arguments, **options)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image or a container."""
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found

    def wait_healthy(self, container: str, seconds: float = 120) -> None:
        """Wait until a container's own health check passes; its log is told where it does not."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.inspect(container)["State"]
            if state["Health"]["Status"] == "healthy":
                return
            told = f"{state}\n{self.docker('logs', '--tail', '100', container)}"
            assert state["Running"], told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def build(self, image: str) -> str:
        """Build an image of ours on the stand-ins, with the classic builder; returns its name."""
        self.for_builds()
        name = f"marquee-{image}:test"
        given = {**BASES[image], **LABELS}
        flags = [part for pair in given.items() for part in ("--build-arg", "=".join(pair))]
        dockerfile = f"deploy/docker/{image}.Dockerfile"
        self.docker("build", "--network", "host", "-f", dockerfile, "-t", name, *flags, ".", timeout=1800)
        self.images[image] = name
        return name

    def stand_in(self, name: str, dockerfile: str, files: Sequence[Path] = ()) -> None:
        """Make an image that stands in for one that cannot be fetched; `files` are its context."""
        self.for_builds()
        with tempfile.TemporaryDirectory() as context:
            for file in files:
                shutil.copy(file, context)
            (Path(context) / "Dockerfile").write_text(dockerfile)
            self.docker("build", "--network", "host", "-t", name, context)

    def sweep(self) -> None:
        """Remove all containers, networks and volumes; images stay."""
        for container in self.docker("ps", "-aq", check=False).split():
            self.docker("rm", "-f", "-v", container, check=False)
        for kind in ("network", "volume"):
            self.docker(kind, "prune", "-f", check=False)

    def close(self) -> None:
        """End it, and remove what it left but the cache."""
        if self._daemon is not None:
            self.docker("image", "prune", "-f", "--filter", "until=48h", check=False)
            self._end()
        _clear(self._run, self.cache / "data", self.namespace)
        self._lock.truncate(0)
        self._lock.close()

    def _client_environment(self) -> dict[str, str]:
        plugins = self._run / "config/cli-plugins"
        plugins.mkdir(parents=True)
        beside = [REPOSITORY / ".venv-lint/bin", Path(sys.executable).parent]
        found = shutil.which("docker-compose", path=os.pathsep.join([*map(str, beside), os.environ["PATH"]]))
        if found is not None:
            (plugins / "docker-compose").symlink_to(Path(found).resolve())
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))
        }
        return {
            **kept,
            "DOCKER_HOST": f"unix://{self._run / 'sock'}",
            "DOCKER_CONFIG": str(self._run / "config"),
            "DOCKER_BUILDKIT": "0",
        }

    def _switch(self, mode: Mode) -> None:
        if mode == self.mode:
            return
        if self._daemon is not None:
            running = self.docker("ps", "-q")
            assert not running, f"containers run, so the engine cannot change to {mode}: {running}"
            self._end()
        command = ["dockerd", "--data-root", str(self.cache / "data"), "--exec-root", str(self._run / "exec")]
        command += ["-H", f"unix://{self._run / 'sock'}", "--pidfile", str(self._run / "pid")]
        if mode == "builds":
            command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]
            command += ["--ip-forward=false"]
        else:
            command = ["nsenter", f"--net=/run/netns/{self.namespace}", *command]
        with (self._run / "log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = (self._run / "log").read_text()[-2000:]
                self._end()
                raise UnavailableError(f"dockerd does not start: {said}")
            time.sleep(0.1)
        self.mode = mode

    def _answers(self) -> bool:
        command = ["docker", "version", "-f", "{{.Server.Version}}"]
        return not subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode

    def _end(self) -> None:
        assert self._daemon is not None
        if self._daemon.poll() is None:
            self.sweep()
            self._daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._daemon.wait(30)
            if self._daemon.poll() is None:
                self._daemon.kill()
                self._daemon.wait()
        _end_processes(self._run)
        _unmount(self._run, self.cache / "data")
        self._daemon = self.mode = None

    def _make_stand_ins(self) -> None:
        if not self.docker("images", "-q", DEBIAN):
            with _rootfs(self.cache) as rootfs:
                self.docker("import", rootfs, DEBIAN)
        bundle = self._run / "ca.crt"
        shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), bundle)
        inside = "/etc/ssl/certs/ca-certificates.crt"
        environment = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"), inside)
        for name in ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "NPM_CONFIG_REGISTRY"):
            if name in os.environ:
                environment[name] = os.environ[name]
        for name, dockerfile in STAND_INS.items():
            settings = " ".join(f'{key}="{value}"' for key, value in environment.items())
            text = dockerfile.replace("{environment}", settings)
            self.stand_in(name, text, [bundle, REPOSITORY / "requirements-node.lock"])


def _require_programs() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("needs root")
    programs = ("docker", "dockerd", "debootstrap", "ip", "nsenter", "iptables")
    lacking = [name for name in programs if shutil.which(name) is None]
    if lacking:
        raise UnavailableError(f"lacks {', '.join(lacking)}")


def _free_link() -> tuple[str, str]:
    """Two addresses of a network of two that no interface of this machine is in."""
    used = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
    for third in range(256):
        number = (os.getpid() + third) % 256
        if f" 10.231.{number}." not in used:
            return f"10.231.{number}.1", f"10.231.{number}.2"
    raise UnavailableError("no free network in 10.231.0.0/16")


def _add_namespace(name: str, gateway: str, address: str) -> None:
    outer, inner = f"mqh{os.getpid()}", f"mqn{os.getpid()}"
    for command in (
        f"ip netns add {name}",
        f"ip link add {outer} type veth peer name {inner} netns {name}",
        f"ip address add {gateway}/30 dev {outer}",
        f"ip link set {outer} up",
        f"ip -n {name} address add {address}/30 dev {inner}",
        f"ip -n {name} link set {inner} up",
        f"ip -n {name} link set lo up",
    ):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{command}: {done.stderr.strip()}")


def _clear(run: Path, data: Path, namespace: str) -> None:
    """Remove all that an engine has made outside of its cache."""
    _end_processes(run)
    _unmount(run, data)
    # With it goes its end of the pair of interfaces, and with that the other end.
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
    shutil.rmtree(run, ignore_errors=True)


def _end_processes(run: Path) -> None:
    """End what runs from this folder, which has a name that no other has, and what that has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended by itself
            if f"{run}/".encode() in (entry / "cmdline").read_bytes():
                children = (entry / f"task/{entry.name}/children").read_text().split()
                for process in (*children, entry.name):
                    os.kill(int(process), signal.SIGKILL)


def _unmount(*folders: Path) -> None:
    for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
        where = Path(line.split()[1])
        if any(where.is_relative_to(folder) for folder in folders):
            subprocess.run(["umount", "--lazy", str(where)], check=False)


@contextmanager
def _rootfs(cache: Path) -> Iterator[Path]:
    """A tar file of a small Debian; removed afterwards, since the engine has it then."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        root, tar = Path(folder) / "root", Path(folder) / "root.tar"
        command = ["debootstrap", "--variant=minbase", SUITE, str(root), *_mirror()]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise UnavailableError(f"debootstrap: {done.stdout[-500:]}")
        for waste in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(root / waste, ignore_errors=True)
        for needed in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
            (root / needed).mkdir(parents=True)
        subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True)
        yield tar


def _mirror() -> list[str]:
    """The first mirror of Debian among this machine's sources; none on Ubuntu: debootstrap knows one."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(file.read_text() for file in sources if file.is_file())
    for url in re.findall(r"^(?:deb|URIs:)\s+(?:\[.*?\]\s+)?(https?://\S+)", text, re.MULTILINE):
        if url.rstrip("/").endswith("/debian"):
            return [str(url)]
    return []
