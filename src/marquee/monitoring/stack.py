"""The programs that watch Marquee: what they look at, how they are run here, and what they see."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from marquee.config import OpsSettings, Settings, reachable
from marquee.errors import ConfigError, SourceUnavailableError

__all__ = [
    "RENDERED",
    "Program",
    "State",
    "Target",
    "Targets",
    "local_targets",
    "programs",
    "prometheus_url",
    "read_state",
    "targets",
    "watches_database",
]

JOBS: Final = (
    "airflow",
    "alertmanager",
    "alloy",
    "cadvisor",
    "grafana",
    "loki",
    "marquee-api",
    "marquee-worker",
    "node",
    "postgres",
    "prometheus",
    "site",
)
EXPORTER: Final = "blackbox"
"""What looks at the site for Prometheus: no job, but something with an address."""
RENDERED: Final = ("prometheus", "alertmanager")
"""Programs with a folder of configuration; see `stack_files`."""
PACKAGES: Final = {
    "prometheus": ("prometheus", ("prometheus",)),
    "alertmanager": ("prometheus-alertmanager", ("prometheus-alertmanager", "alertmanager")),
    "node": ("prometheus-node-exporter", ("prometheus-node-exporter", "node_exporter")),
    "postgres": ("prometheus-postgres-exporter", ("prometheus-postgres-exporter", "postgres_exporter")),
}
"""Name → package of Debian, and what the program may be called."""
OPTIONAL: Final = "postgres"


class Target(NamedTuple):
    """Something that is scraped: `address` is `host:port`."""

    address: str
    labels: Mapping[str, str]


Targets = Mapping[str, Sequence[Target]]
"""Those of each job."""


@dataclass(frozen=True)
class Program:
    """A program to be run in a folder, and where it listens."""

    name: str
    command: tuple[str, ...]
    port: int
    setting: str
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class State:
    """
    What a running Prometheus sees.

    Attributes:
        targets: job, address, health (`up`, `down`, `unknown`) and error of each.
        alerts: names of the alerts that are loaded.
        firing: names of those that fire.
        alertmanagers: how many it sends alerts to.
    """

    targets: list[tuple[str, str, str, str]]
    alerts: list[str]
    firing: list[str]
    alertmanagers: int

    @property
    def settled(self) -> bool:
        """Whether each target has been looked at."""
        return bool(self.targets) and all(health != "unknown" for _, _, health, _ in self.targets)

    @property
    def well(self) -> bool:
        """Whether all targets are up and there are alerts and somebody to send them to."""
        return (
            all(health == "up" for _, _, health, _ in self.targets)
            and bool(self.alerts)
            and self.alertmanagers > 0
        )


def targets(settings: Settings) -> Targets:
    """
    What is scraped where the three hosts are those of the settings.

    Raises:
        ConfigError: a job that is to be left out, or found elsewhere, does not exist.
    """
    ops = settings.ops
    elsewhere = _elsewhere(ops)
    roles = {"workhorse": ops.workhorse, "controltower": ops.controltower, "nervous": ops.nervous}

    def on(role: str, port: int | None) -> list[Target]:
        return [] if port is None else [Target(_address(roles[role], port), _labels(roles[role], role))]

    def on_each(port: int) -> list[Target]:
        # Hosts may be the same one: then it has one exporter.
        found = {_address(host, port): _labels(host, role) for role, host in reversed(roles.items())}
        return [Target(address, labels) for address, labels in reversed(found.items())]

    site = [] if ops.site is None else [
        Target(ops.site, {**_labels(roles["controltower"], "controltower"),
                          "__exporter__": elsewhere.get(EXPORTER, _address(roles["nervous"], 9115))})
    ]  # fmt: skip
    unknown = set(ops.without) - set(JOBS)
    if unknown:
        raise ConfigError(
            f"MARQUEE_OPS__WITHOUT names no job: {', '.join(sorted(unknown))}.",
            fix=f"The jobs are {', '.join(JOBS)}.",
        )
    found = {
        "airflow": on("controltower", 9102),
        "alertmanager": on("nervous", ops.alertmanager_port),
        "alloy": on_each(12345),
        "cadvisor": on_each(8080),
        "grafana": on("nervous", 3000),
        "loki": on("nervous", 3100),
        "marquee-api": on("workhorse", settings.api.ops_port or settings.port),
        "marquee-worker": on("workhorse", settings.local_worker_port),
        "node": on_each(ops.node_port),
        "postgres": on("workhorse", ops.postgres_port),
        "prometheus": on("nervous", ops.prometheus_port),
        "site": site,
    }
    for job in found.keys() & elsewhere.keys():
        address, _, path = elsewhere[job].partition("/")
        at = {"__metrics_path__": f"/{path}"} if path else {}
        found[job] = [Target(address, {**target.labels, **at}) for target in found[job][:1]]
    return {job: [] if job in ops.without else hosts for job, hosts in found.items()}


def local_targets(settings: Settings, running: Sequence[Program]) -> Targets:
    """What is scraped on this machine alone: the local API and worker, and what runs beside Prometheus."""
    here = _labels("127.0.0.1", "workhorse")
    ports = {program.name: program.port for program in running}
    ports["marquee-api"] = settings.api.ops_port or settings.port
    worker = settings.local_worker_port
    if worker is not None:
        ports["marquee-worker"] = worker
    hosts = {
        "marquee-api": reachable(settings.host),
        "marquee-worker": reachable(settings.worker.ops_host),
    }
    return {
        job: [Target(_address(hosts.get(job, "127.0.0.1"), ports[job]), here)] if job in ports else []
        for job in JOBS
    }


def programs(settings: Settings, folder: Path, database_url: str | None) -> list[Program]:
    """
    What to run on this machine, all on loopback.

    Args:
        folder: as `stack_files.render` wrote it; the programs keep their data in it, too.
        database_url: of PostgreSQL, as libpq reads it; None: it is not watched.

    Raises:
        ConfigError: one is not installed.
    """
    ops = settings.ops
    found = {name: path for name in PACKAGES if (path := _find(name)) is not None}
    missing = [name for name in PACKAGES if name not in found and name != OPTIONAL]
    if missing:
        packages = " ".join(PACKAGES[name][0] for name in missing)
        raise ConfigError(
            f"Not found on this machine: {', '.join(PACKAGES[name][1][0] for name in missing)}.",
            fix=f"On Debian and Ubuntu: apt install --no-install-recommends {packages}. Elsewhere put the "
            "programs of prometheus.io/download on the path.",
        )

    def program(name: str, port: int, *flags: str, **environment: str) -> Program:
        command = (found[name], *flags, f"--web.listen-address=127.0.0.1:{port}")
        # Alertmanager looks for secrets from where it runs.
        place = folder / name if name in RENDERED else folder
        return Program(name, command, port, f"MARQUEE_OPS__{name.upper()}_PORT", environment, place)

    chosen = [
        program(
            "prometheus",
            ops.prometheus_port,
            f"--config.file={folder / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data' / 'prometheus'}",
            f"--storage.tsdb.retention.time={ops.keep_days}d",
            f"--web.external-url=http://127.0.0.1:{ops.prometheus_port}",
        ),
        program(
            "alertmanager",
            ops.alertmanager_port,
            f"--config.file={folder / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data' / 'alertmanager'}",
            f"--web.external-url=http://127.0.0.1:{ops.alertmanager_port}",
            "--cluster.listen-address=",
        ),
        program("node", ops.node_port),
    ]
    if OPTIONAL in found and database_url is not None:
        chosen.append(program("postgres", ops.postgres_port, DATA_SOURCE_NAME=_without_tls(database_url)))
    return chosen


def watches_database() -> bool:
    """Whether the PostgreSQL exporter is installed; the stack is complete without it."""
    return _find(OPTIONAL) is not None


def prometheus_url(settings: Settings) -> str:
    """Where the Prometheus of the three hosts is."""
    return f"http://{_address(settings.ops.nervous, settings.ops.prometheus_port)}"


def read_state(url: str) -> State:
    """
    Ask a running Prometheus what it sees.

    Raises:
        SourceUnavailableError: it does not answer.
    """
    try:
        with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
            active = _data(client, "/api/v1/targets?state=active")["activeTargets"]
            groups = _data(client, "/api/v1/rules?type=alert")["groups"]
            receivers = _data(client, "/api/v1/alertmanagers")["activeAlertmanagers"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise SourceUnavailableError(
            f"Prometheus does not answer at {url}: {error}.", fix="Start it: marquee ops up"
        ) from None
    rules = [rule for group in groups for rule in group["rules"]]
    return State(
        targets=sorted(
            (t["labels"]["job"], t["labels"]["instance"], t["health"], t["lastError"]) for t in active
        ),
        alerts=sorted({rule["name"] for rule in rules}),
        firing=sorted({rule["name"] for rule in rules if rule["state"] == "firing"}),
        alertmanagers=len(receivers),
    )


def _elsewhere(ops: OpsSettings) -> dict[str, str]:
    """Job → `host:port` of those that are not where the three hosts say."""
    found = dict(entry.partition("=")[::2] for entry in ops.addresses)
    wrong = [job for job, address in found.items() if job not in (*JOBS, EXPORTER) or ":" not in address]
    if wrong:
        raise ConfigError(
            f"MARQUEE_OPS__ADDRESSES does not name a job and its host:port: {', '.join(sorted(wrong))}.",
            fix=f"The jobs are {', '.join((*JOBS, EXPORTER))}: prometheus=prometheus:9090,loki=loki:3100",
        )
    return found


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _labels(host: str, role: str) -> dict[str, str]:
    return {"host": "localhost" if host in ("127.0.0.1", "::1") else host, "role": role}


def _find(name: str) -> str | None:
    return next(filter(None, map(shutil.which, PACKAGES[name][1])), None)


def _without_tls(url: str) -> str:
    """A URL for Go's driver, which unlike libpq insists on TLS, on sockets of this machine too."""
    local = "host=%2F" in url or "@127.0.0.1" in url or "@localhost" in url
    return f"{url}{'&' if '?' in url else '?'}sslmode=disable" if local and "sslmode=" not in url else url


def _data(client: httpx.Client, path: str) -> Any:
    return client.get(path).raise_for_status().json()["data"]
