"""
The programs that watch Marquee, and what of their configuration depends on where things run.

Prometheus and Alertmanager expand no variables. So the files of `deploy/` are valid as they are, for one
machine, and `render` writes them for other places: targets for each job and host, where runbooks are, and the
mail server, addresses, channels and secrets of Alertmanager.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from marquee.config import OpsSettings, Settings, reachable
from marquee.errors import ConfigError, SourceUnavailableError

__all__ = [
    "Program",
    "State",
    "Target",
    "deploy_folder",
    "local_targets",
    "programs",
    "prometheus_url",
    "read_state",
    "render",
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
RENDERED: Final = ("prometheus", "alertmanager")
LOCAL_INTERVAL: Final = "5s"
"""Between scrapes, and for one, where everything is on one machine: what is started is seen soon."""
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


def deploy_folder() -> Path:
    """
    Where the configuration of the stack is: in the package, or in the repository that it runs from.

    Raises:
        ConfigError: it is in neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "deploy", package.parents[1] / "deploy"):
        if (folder / "prometheus" / "prometheus.yml").is_file():
            return folder
    raise ConfigError(
        f"The configuration of Prometheus is not beside {package}.",
        fix="Install Marquee from its wheel, or run it from its repository.",
    )


def targets(settings: Settings) -> Targets:
    """
    What is scraped where the three hosts are those of the settings.

    Raises:
        ConfigError: a job that is to be left out does not exist.
    """
    ops = settings.ops
    roles = {"workhorse": ops.workhorse, "controltower": ops.controltower, "nervous": ops.nervous}

    def on(role: str, port: int | None) -> list[Target]:
        return [] if port is None else [Target(_address(roles[role], port), _labels(roles[role], role))]

    def on_each(port: int) -> list[Target]:
        # Hosts may be the same one: then it has one exporter.
        found = {_address(host, port): _labels(host, role) for role, host in reversed(roles.items())}
        return [Target(address, labels) for address, labels in reversed(found.items())]

    site = [] if ops.site is None else [
        Target(ops.site, {**_labels(roles["controltower"], "controltower"),
                          "__exporter__": _address(roles["nervous"], 9115)})
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


def render(folder: Path, chosen: Targets, ops: OpsSettings, *, local: bool = False) -> list[Path]:
    """
    Write the folders `prometheus` and `alertmanager`, ready to be used, and `loki/rules`.

    Args:
        local: everything is on one machine, without Loki, and the folder is ours: look more often.

    Returns:
        The files written.
    """
    written: list[Path] = []
    if local and (folder / "prometheus").exists():
        shutil.rmtree(folder / "prometheus")  # rules that are no more would be loaded still
    for name in RENDERED:
        shutil.copytree(
            deploy_folder() / name,
            folder / name,
            ignore=shutil.ignore_patterns("tests", "targets", "secrets"),
            dirs_exist_ok=True,
        )
    for job, found in chosen.items():
        path = folder / "prometheus" / "targets" / f"{job}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_target_file(found), "utf-8")
        written.append(path)
    path = folder / "prometheus" / "prometheus.yml"
    text = _replaced(path.read_text("utf-8"), "^    runbooks: ", json.dumps(ops.runbooks))
    if local:
        for name in ("scrape_interval", "scrape_timeout"):
            text = _replaced(text, f"^  {name}: ", LOCAL_INTERVAL)
    else:
        written.append(_render_loki_rules(folder / "loki" / "rules", ops.runbooks))
    path.write_text(text, "utf-8")
    written.append(path)
    path = folder / "alertmanager" / "alertmanager.yml"
    path.write_text(_alertmanager(path.read_text("utf-8"), ops), "utf-8")
    # Empty, and closed to others, until somebody puts the secrets there.
    (folder / "alertmanager" / "secrets").mkdir(mode=0o700, exist_ok=True)
    return [*written, path]


def programs(settings: Settings, folder: Path, database_url: str | None) -> list[Program]:
    """
    What to run on this machine, all on loopback.

    Args:
        folder: as `render` wrote it; the programs keep their data in it, too.
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


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _labels(host: str, role: str) -> dict[str, str]:
    return {"host": "localhost" if host in ("127.0.0.1", "::1") else host, "role": role}


def _target_file(found: Sequence[Target]) -> str:
    lines = [f"- {json.dumps({'targets': [t.address], 'labels': dict(t.labels)})}" for t in found]
    return "\n".join(["# Made by `marquee ops render` or `up`.", *(lines or ["[]"]), ""])


def _render_loki_rules(folder: Path, runbooks: str) -> Path:
    """Loki's rules, their links written out, in the folder where Loki looks when it has no tenants."""
    text = (deploy_folder() / "loki" / "rules" / "logs.yml").read_text("utf-8")
    path = folder / "fake" / "logs.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(f" {OpsSettings().runbooks}/", f" {runbooks}/"), "utf-8")
    return path


def _alertmanager(text: str, ops: OpsSettings) -> str:
    """The configuration with the settings in the places of what stands in the repository."""
    for pattern, value in _alertmanager_values(ops):
        text = _replaced(text, pattern, json.dumps(value))
    if ops.smtp_user is not None:
        password = str((ops.smtp_password_file or Path("secrets/smtp-password")).expanduser())
        login = f"  smtp_auth_username: {json.dumps(ops.smtp_user)}\n"
        login += f"  smtp_auth_password_file: {json.dumps(password)}\n"
        text = text.replace("  smtp_require_tls:", f"{login}  smtp_require_tls:", 1)
    return text


def _alertmanager_values(ops: OpsSettings) -> Iterator[tuple[str, Any]]:
    yield r"^  smtp_smarthost: ", ops.smtp
    yield r"^  smtp_from: ", ops.mail_from
    yield r"^  smtp_require_tls: ", ops.smtp_user is not None
    yield r"^      - to: ", ops.mail_to
    for kind, channel, file in (
        ("errors", ops.slack_errors_channel, ops.slack_errors_url_file),
        ("warnings", ops.slack_warnings_channel, ops.slack_warnings_url_file),
    ):
        yield rf'^        channel: (?="#marquee-{kind}"$)', channel
        if file is not None:
            yield (
                rf"^(?:      - |        )api_url_file: (?=secrets/slack-{kind}-url$)",
                str(file.expanduser()),
            )


def _replaced(text: str, pattern: str, value: str) -> str:
    """The one line that begins with a pattern gets another end."""
    done, count = re.subn(f"({pattern}).*$", lambda match: match[1] + value, text, flags=re.MULTILINE)
    assert count == 1, f"{pattern} occurs {count} times"  # the files are ours
    return done


def _find(name: str) -> str | None:
    return next(filter(None, map(shutil.which, PACKAGES[name][1])), None)


def _without_tls(url: str) -> str:
    """A URL for Go's driver, which unlike libpq insists on TLS, on sockets of this machine too."""
    local = "host=%2F" in url or "@127.0.0.1" in url or "@localhost" in url
    return f"{url}{'&' if '?' in url else '?'}sslmode=disable" if local and "sslmode=" not in url else url


def _data(client: httpx.Client, path: str) -> Any:
    return client.get(path).raise_for_status().json()["data"]
