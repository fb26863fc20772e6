"""Everything on one host in an engine of our own, and visitors who keep asking for its pages."""

import subprocess
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import waiting
from engine import Engine

SITE = "films.example.org"
ONCE = {"migrate", "first-models", "render", "airflow-migrate"}
"""Services that end when they are done."""
PSQL = ("psql", "-U", "marquee", "-Atc")
LIST_ARCHIVE = """
from marquee.cli.session import open_settings
from marquee.store.remote import RemoteStore
print(*sorted(found.key for found in RemoteStore.open(open_settings().objects).list()), sep="\\n")
"""

until = partial(waiting.until, seconds=900, every=0.5)
"""Of a stack, where much starts at once and a look is several commands."""


@dataclass
class Stack:
    """All services, running, and the checkout that they were started from."""

    engine: Engine
    checkout: Path

    @property
    def folder(self) -> Path:
        """Of .env and the secrets."""
        return self.checkout / "deploy" / "compose"

    @property
    def url(self) -> str:
        return f"https://{SITE}"

    def compose(self, *arguments: str) -> str:
        """What Compose says."""
        return self.engine.compose("-f", "deploy/compose/all-in-one.yml", *arguments, cwd=self.checkout)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container; of several, of the one that runs."""
        found = {}
        for container in self.compose("ps", "-aq").split():
            known = self.engine.inspect(container)
            service = known["Config"]["Labels"]["com.docker.compose.service"]
            if service not in found or known["State"]["Running"]:
                found[service] = known
        return found

    def unwell(self) -> dict[str, str]:
        """Services that are not as they should be, and how they are."""
        found = {}
        for service, known in self.containers().items():
            state = known["State"]
            health = state.get("Health", {}).get("Status", "healthy")
            well = state["ExitCode"] == 0 and state["Status"] == "exited" if service in ONCE else (
                state["Running"] and health == "healthy"
            )  # fmt: skip
            if not well:
                found[service] = f"{state['Status']} {health} {state['ExitCode']}"
        return found

    def await_well(self) -> None:
        until(lambda: not self.unwell(), lambda: f"{self.unwell()}\n{self.compose('logs', '--tail', '15')}")

    def answers(self) -> bool:
        """Whether the site's first page can be had."""
        with self.client() as client, suppress(httpx.HTTPError):
            return client.get("/", extensions={"sni_hostname": SITE}).status_code == 200
        return False

    def counts(self) -> str:
        """How many rows there are of what people did, of people and of films."""
        tables = ("interactions", "users", "items")
        query = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in tables)}"
        return self.compose("exec", "-T", "postgres", *PSQL, query)

    def shell(self, commands: str) -> str:
        """What commands say that somebody types in the checkout, none of which may fail."""
        done = self._done("bash", "-eo", "pipefail", "-c", commands)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run(self, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A program of deploy/bin, and what it says on both streams."""
        return self._done(f"deploy/bin/{program}", *arguments, **environment)

    def release(self, *arguments: str, seconds: int = 180) -> subprocess.CompletedProcess[str]:
        options = ("--local", "--insecure", "--connect", f"{self.engine.address}:443")
        return self.run("release", *options, *arguments, RELEASE_SECONDS=str(seconds))

    def _done(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.checkout,
            env={**self.engine.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )

    def waiting(self) -> int:
        """Objects that wait for their way into the archive."""
        return int(self.compose("exec", "-T", "postgres", *PSQL, "SELECT count(*) FROM outbox"))

    def archived(self) -> list[str]:
        """Keys in the bucket."""
        return self.compose("exec", "-T", "worker", "python3", "-c", LIST_ARCHIVE).splitlines()

    def image_of(self, service: str) -> str:
        """The label `version` of what a service runs."""
        labels = self.containers()[service]["Config"]["Labels"]
        return str(labels["org.opencontainers.image.version"])

    def has_variable(self, service: str, variable: str) -> bool:
        """Whether a service runs with `NAME=VALUE` in its environment."""
        return variable in self.containers()[service]["Config"]["Env"]

    def tool(self, path: str) -> dict[str, Any]:
        """What a tool behind the proxy's log-in answers, once the proxy reaches it."""
        password = (self.folder / "secrets" / "proxy-password").read_text().strip()
        answers: list[httpx.Response] = []

        def reached() -> bool:
            answers.append(client.get(path, auth=("admin", password), extensions={"sni_hostname": SITE}))
            return answers[-1].status_code not in (502, 503)

        with self.client() as client:
            until(reached, lambda: answers[-1].text)
        assert answers[-1].status_code == 200, answers[-1].text
        found: dict[str, Any] = answers[-1].json()
        return found

    def client(self) -> httpx.Client:
        """A browser that finds the site at the address of the engine."""
        return httpx.Client(
            base_url=f"https://{self.engine.address}",
            headers={"Host": SITE},
            verify=False,
            trust_env=False,
            timeout=60,
        )


@dataclass
class Load:
    """Visitors who ask all the time, below the limit of one address, and what became of it."""

    stack: Stack
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._ended = threading.Event()
        film = {"content_id": 155, "watch_seconds": 4508, "rating": 7.5, "popularity": 20.0, "user_id": 1}
        asked = [("GET", "/", None), ("GET", "/api/v1/popular?k=3", None), ("POST", "/api/predict", film)]
        self._threads = [threading.Thread(target=self._ask, args=one) for one in asked]
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) >= len(asked), lambda: str(self.failures))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> None:
        with self.stack.client() as client:
            while not self._ended.wait(0.03):
                try:
                    answer = client.request(method, path, json=body, extensions={"sni_hostname": SITE})
                except httpx.HTTPError as error:
                    self.failures.append(f"{method} {path}: {error!r}")
                else:
                    self.answers[path, answer.status_code] += 1
                    if answer.status_code != 200:
                        self.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
