"""
The files of `deploy/` in real servers: Prometheus and Alertmanager watch a real API, worker and database.

Copies of the files are used in which only times differ: they look every second, and alerts wait for no `for`.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import promql_parser
import psycopg
import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from free_ports import free_port
from waiting import until

from marquee.config import Settings
from marquee.jobs import Queue
from marquee.models import Ease
from marquee.store import bundles
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, interactions, items, runs

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 400
RUNBOOKS = "https://example.org/runbooks"
PASSWORD = "not-in-any-file-of-the-repository"
PROGRAMS = (
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-node-exporter",
    "prometheus-postgres-exporter",
)
NOT_RUN_HERE = re.compile(
    r"container_.*|machine_.*"  # cAdvisor
    r"|probe_.*"  # the blackbox exporter
    r"|airflow_.*|loki_.*|grafana_.*|log_.*"  # log_: Alloy
    r"|marquee_http_unhandled_errors_total"  # of what nobody foresees, which cannot be had on purpose
)
"""Metrics that nothing says here, but for one of programs that this test does not run: only accepted."""
NOT_HERE = {"up{job=cadvisor}"}
"""Selectors of the same."""


@dataclass
class Inbox:
    """What was received: posts of Slack's format with the path they were sent to, and mails."""

    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    def post(self, path: str, title: str) -> dict[str, Any] | None:
        found = (post for to, post in self.posts if to == path)
        return next((post for post in found if post["attachments"][0]["title"] == title), None)

    def mail(self, subject: str) -> EmailMessage | None:
        return next((mail for mail in self.mails if mail["Subject"] == subject), None)


@dataclass
class Stack:
    """Where everything listens, and the database that can be taken away."""

    folder: Path
    server: EmbeddedServer
    database: str
    api: str
    slow_api: str
    key: str
    prometheus: str
    alertmanager: str
    inbox: Inbox

    def ask(self, expression: str) -> list[Any]:
        """The series of an expression now."""
        answer = get(f"{self.prometheus}/api/v1/query", query=expression)
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[Any] = answer["data"]["result"]
        return found

    def lock_database(self, locked: bool) -> None:
        """Let nobody into the database, or everybody again."""
        with psycopg.connect(self.server.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS {not locked}")
            if locked:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [self.database],
                )

    def settings(self) -> Settings:
        return Settings(home=self.folder / "home", database={"url": self.server.url_of(self.database)})


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedServer,
    tmp_path_factory: pytest.TempPathFactory,
    missing: Callable[[str], None],
) -> Iterator[Stack]:
    """Everything, running, with a model that serves."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            missing(program)
    folder = tmp_path_factory.mktemp("stack")
    database = f"test_{uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE template_marquee STRATEGY file_copy")
    names = ("api", "slow_api", "worker", "slack", "smtp", "prometheus", "alertmanager", "node", "postgres")
    ports = {name: free_port() for name in names}
    inbox, key = Inbox(), secrets.token_urlsafe(32)
    with contextlib.ExitStack() as running:
        running.enter_context(slack_server(ports["slack"], inbox))
        running.enter_context(smtp_server(ports["smtp"], inbox))
        write_files(folder, ports)
        environment = environment_of_marquee(folder, postgres.url_of(database), key)
        start = _Starter(folder, running)
        marquee = (sys.executable, "-m", "marquee.cli")
        start("api", *marquee, "serve", "--port", str(ports["api"]), **environment)
        # One more, of whom nothing comes in time.
        slow = {"MARQUEE_API__DEADLINE_MS": "0.001", "MARQUEE_API__SLOW_CLIENT_SECONDS": "0.2"}
        slow |= {"MARQUEE_API__RATE_PER_ADDRESS": "3/second"}
        start("slow_api", *marquee, "serve", "--port", str(ports["slow_api"]), **environment, **slow)
        start("worker", *marquee, "worker", "--ops-port", str(ports["worker"]), **environment)
        at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        start("node", PROGRAMS[2], f"--web.listen-address={at['node']}")
        start(
            "exporter",
            PROGRAMS[3],
            f"--web.listen-address={at['postgres']}",
            DATA_SOURCE_NAME=without_tls(postgres.url_of("postgres")),
        )
        start(
            "alertmanager",
            PROGRAMS[1],
            f"--config.file={folder / 'alertmanager/alertmanager.yml'}",
            f"--storage.path={folder / 'data-alertmanager'}",
            f"--web.listen-address={at['alertmanager']}",
            "--web.external-url=https://alertmanager.example.org",
            "--web.route-prefix=/",
            "--cluster.listen-address=",
        )
        start(
            "prometheus",
            PROGRAMS[0],
            f"--config.file={folder / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data-prometheus'}",
            f"--web.listen-address={at['prometheus']}",
            "--web.external-url=https://prometheus.example.org",
            "--web.route-prefix=/",
        )
        url = {name: f"http://{address}" for name, address in at.items()}
        servers = (url["prometheus"], url["alertmanager"])
        made = Stack(folder, postgres, database, url["api"], url["slow_api"], key, *servers, inbox)
        build_models(made, start)
        until(lambda: len(made.ask("up == 1")) == 7, start.said)
        yield made
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


def test_all_targets_are_up_all_alerts_loaded_and_nothing_of_ours_fires(stack: Stack) -> None:
    groups = get(f"{stack.prometheus}/api/v1/rules", type="alert")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    written = [rule["alert"] for rule in rules_of_files() if "alert" in rule]
    assert sorted(rule["name"] for rule in rules) == sorted(written)
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert len(get(f"{stack.prometheus}/api/v1/alertmanagers")["data"]["activeAlertmanagers"]) == 1
    # The machine of the test may well be busy or its disk full.
    until(lambda: not stack.ask('ALERTS{alertstate="firing",alertname=~"Marquee.*|TargetDown"}'))


def test_failed_pipeline_reaches_the_channel_of_warnings_and_no_mail(stack: Stack) -> None:
    fail_a_run(stack)
    title = "[WARNING] MarqueePipelineFailed"
    until(lambda: stack.inbox.post("/warnings", title), lambda: str(stack.inbox.posts))
    post = stack.inbox.post("/warnings", title)
    assert post is not None
    assert post["channel"] == "#marquee-warnings"
    [attachment] = post["attachments"]
    assert "The pipeline infer failed" in attachment["text"]
    assert f"<{RUNBOOKS}/MarqueePipelineFailed.md|Runbook>" in attachment["text"]
    assert attachment["color"] == "warning"
    assert not [mail for mail in stack.inbox.mails if "MarqueePipelineFailed" in mail["Subject"]]


def test_lost_database_is_told_by_slack_and_mail_and_so_is_its_return(stack: Stack) -> None:
    inbox, runbook = stack.inbox, f"{RUNBOOKS}/MarqueeDatabaseDown.md"
    title = "MarqueeDatabaseDown on localhost"
    alarm, over = f"[CRITICAL × 2] {title}", f"[RESOLVED] {title}"
    stack.lock_database(True)
    try:
        refuse_events(stack, 5)
        until(lambda: inbox.post("/errors", alarm) and inbox.mail(alarm), lambda: str(inbox.posts))
        # Of what follows from it nobody is told. (A counter is seen to count from its second scrape on.)
        until(lambda: refuse_events(stack, 5) or inhibited(stack, "MarqueeHighErrorRate"))
    finally:
        stack.lock_database(False)
    post, mail = inbox.post("/errors", alarm), inbox.mail(alarm)
    assert post is not None
    assert mail is not None
    assert post["channel"] == "#marquee-errors"
    [attachment] = post["attachments"]
    assert attachment["color"] == "danger"
    assert attachment["title_link"].startswith("https://alertmanager.example.org/")
    assert "PostgreSQL does not answer, as marquee-api" in attachment["text"]
    assert "events are refused with 503" in attachment["text"]
    assert f"<{runbook}|Runbook>" in attachment["text"]
    assert "<https://prometheus.example.org/graph?" in attachment["text"]
    assert mail["To"] == "operators@example.org"
    plain = mail.get_body(("plain",))
    assert plain is not None
    body = plain.get_content()
    assert "PostgreSQL does not answer, as marquee-api" in body
    assert f"Runbook: {runbook}" in body
    assert inbox.logins == {PASSWORD}

    until(lambda: inbox.post("/errors", over) and inbox.mail(over), lambda: str(inbox.posts))
    resolved = inbox.post("/errors", over)
    assert resolved is not None
    assert resolved["attachments"][0]["color"] == "good"
    assert "*Resolved: PostgreSQL does not answer" in resolved["attachments"][0]["text"]


def test_every_expression_is_accepted_and_every_selector_returns_series(stack: Stack) -> None:
    provoke(stack)
    expressions = {**of_rules(), **of_dashboards(), **of_runbooks()}
    assert len(expressions) > 100
    refused, wanted = [], {}
    for expression, where in expressions.items():
        answer = httpx.get(
            f"{stack.prometheus}/api/v1/query", params={"query": expression}, trust_env=False, timeout=60
        ).json()
        if answer["status"] != "success":
            refused.append((where, expression, answer))
        wanted |= dict.fromkeys(selectors(expression), where)
    assert refused == []
    lacking = wanted

    def found_all() -> bool:
        nonlocal lacking
        lacking = {selector: where for selector, where in lacking.items() if not has_series(stack, selector)}
        return not lacking

    until(found_all, lambda: "\n".join(f"{where}: {selector}" for selector, where in lacking.items()))


def build_models(stack: Stack, start: "_Starter") -> None:
    """Let the worker bring in data and train what answers single events; the champion is made here."""
    settings = stack.settings()
    with Database.open(settings) as database:
        with database.begin() as connection:
            steps = {"train": {"model": "mlp"}, "infer": {"k": 20}}
            run_id = Queue.open(database).submit(connection, "pipeline", steps).run_id

        def finished() -> bool:
            with database.begin() as connection:
                run = runs.get(connection, run_id)
            assert run.status in {"queued", "running", "succeeded"}, run
            return run.finished

        until(finished, start.said)
        catalog = items.load_catalog(database)
        model = Ease().fit(interactions.load(database), catalog)
        objects, cards = ObjectStore(settings.paths.objects), catalog.table
        ref = bundles.publish(
            objects, model.state(), model=model.name, cards=cards, metrics={}, snapshot="", code_version=""
        )
        of_bundle = {"bundle": ref.key, "digest": ref.digest, "model": ref.model, "version": ref.version}
        with database.begin() as connection:
            deployments.append(connection, "champion", **of_bundle, deployed_by="test", reason="test")
    for url in (stack.api, stack.slow_api):
        until(lambda url=url: get_or_none(f"{url}/health", "champion") == f"ease/{ref.version}", start.said)


def fail_a_run(stack: Stack) -> None:
    with Database.open(stack.settings()) as database, database.begin() as connection:
        run = runs.create(connection, "infer", {})
        runs.start(connection, run.run_id)
        runs.fail(connection, run.run_id, "It failed on purpose.")


def provoke(stack: Stack) -> None:
    """Have everything counted that is counted only when it happens."""
    headers = {"Authorization": f"Bearer {stack.key}"}
    with contextlib.ExitStack() as opened:

        def client(url: str, headers: dict[str, str]) -> httpx.Client:
            return opened.enter_context(
                httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
            )

        api, slow = client(stack.api, headers), client(stack.slow_api, headers)
        until(lambda: api.get("/readyz").json()["status"] == "ready")
        ids = api.get("/available-content-ids").json()["available_content_ids"]
        event = {"user_id": 1, "watch_seconds": 5400, "rating": 8.5, "popularity": 60.0, "content_id": ids[0]}
        for user in range(20):
            api.post("/predict", json=event).raise_for_status()
            for each in (slow, api):
                shown = each.get(
                    f"/v1/users/{user}/recommendations", params={"k": 5, "diversity": 0.3}
                ).json()
            liked = {"user_id": user, "item_id": shown["items"][0]["item_id"], "event": "like"}
            api.post("/v1/events", json=liked | {"request_id": shown["request_id"]}).raise_for_status()
        anonymous = client(stack.slow_api, {})
        assert anonymous.post("/v1/models/rollback").status_code == 401
        until(lambda: anonymous.get("/v1/popular").status_code == 429)
        with socket.create_connection(("127.0.0.1", httpx.URL(stack.slow_api).port or 0)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            idle.settimeout(DEADLINE_SECONDS)
            while idle.recv(4096):
                pass
        fail_a_run(stack)
        with Database.open(stack.settings()) as database, database.begin() as connection:
            Queue.open(database).submit(connection, "monitor")
        # Rows that are refused are given up.
        with psycopg.connect(stack.server.url_of(stack.database), autocommit=True) as direct:
            direct.execute("ALTER TABLE predictions RENAME TO predictions_away")
            api.post("/predict", json=event)
            until(lambda: stack.ask("marquee_journal_dropped_rows_total"))
            direct.execute("ALTER TABLE predictions_away RENAME TO predictions")
        # A rate is one from the second scrape on.
        until(
            lambda: (
                api.get("/v1/users/1/recommendations").is_success
                and stack.ask("marquee:recommendations_fallbacks:ratio5m")
            )
        )


def refuse_events(stack: Stack, count: int) -> None:
    headers = {"Authorization": f"Bearer {stack.key}"}
    event = {"user_id": 1, "item_id": 1, "event": "like", "event_key": "lost"}
    with httpx.Client(base_url=stack.api, headers=headers, timeout=60, trust_env=False) as api:
        until(lambda: api.post("/v1/events", json={"events": [event]}).status_code == 503)
        for _ in range(count):
            api.post("/v1/events", json={"events": [event]})


def inhibited(stack: Stack, name: str) -> bool:
    """Whether an alert fires and is held back."""
    found = get(f"{stack.alertmanager}/api/v2/alerts", filter=f'alertname="{name}"')
    return any(alert["status"]["inhibitedBy"] for alert in found)


def write_files(folder: Path, ports: dict[str, int]) -> None:
    """Copies of the files of `deploy/`: other targets and secrets, and shorter times."""
    for name in ("prometheus", "alertmanager"):
        shutil.copytree(REPOSITORY / "deploy" / name, folder / name)
    prometheus = folder / "prometheus"
    config = prometheus / "prometheus.yml"
    text = re.sub(r"(scrape_interval|scrape_timeout|evaluation_interval): \w+", r"\1: 1s", config.read_text())
    config.write_text(text.replace("runbooks: docs/runbooks/alerts", f"runbooks: {RUNBOOKS}"))
    for rules in (prometheus / "rules").glob("*.yml"):
        rules.write_text(re.sub(r"^        for: \w+$", "        for: 0s", rules.read_text(), flags=re.M))
    # Every job that runs here, under the name of its file; the API twice.
    for file in (prometheus / "targets").glob("*.yml"):
        names = {"marquee-api": ("api", "slow_api"), "marquee-worker": ("worker",)}.get(
            file.stem, (file.stem,)
        )
        here = [f"127.0.0.1:{ports[name]}" for name in names if name in ports]
        labels = {"host": "localhost", "role": "workhorse"}
        file.write_text(json.dumps([{"targets": here, "labels": labels}] if here else []))
    alertmanager = folder / "alertmanager"
    config = alertmanager / "alertmanager.yml"
    text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", config.read_text())
    login = "smtp_auth_username: marquee\n  smtp_auth_password_file: secrets/smtp-password"
    config.write_text(text.replace("127.0.0.1:25", f"127.0.0.1:{ports['smtp']}\n  {login}"))
    (alertmanager / "secrets").mkdir()
    for channel in ("errors", "warnings"):
        url = f"http://127.0.0.1:{ports['slack']}/{channel}"
        (alertmanager / "secrets" / f"slack-{channel}-url").write_text(url)
    (alertmanager / "secrets" / "smtp-password").write_text(PASSWORD)


def environment_of_marquee(folder: Path, database_url: str, key: str) -> dict[str, str]:
    (folder / "operator.key").write_text(key)
    return {
        "MARQUEE_HOME": str(folder / "home"),
        "MARQUEE_DATABASE__URL": database_url,
        "MARQUEE_OPERATOR_KEY_FILE": str(folder / "operator.key"),
        "MARQUEE_OBJECTS__URL": (folder / "archive").as_uri(),
        "MARQUEE_API__DATABASE_SECONDS": "30",
        "MARQUEE_MONITOR__MIN_EVENTS": "50",
        "OMP_NUM_THREADS": "1",
    }


class _Starter:
    """Starts programs that are stopped, the last one first, when the stack is left."""

    def __init__(self, folder: Path, running: contextlib.ExitStack) -> None:
        self._folder, self._running = folder, running

    def __call__(self, name: str, *command: str, **environment: str) -> None:
        log = self._running.enter_context((self._folder / f"{name}.out").open("wb"))
        own = self._folder / name  # Alertmanager finds its secrets from where it runs
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=own if own.is_dir() else self._folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self._running.callback(process.wait, 60)
        self._running.callback(process.send_signal, signal.SIGTERM)

    def said(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self._folder.glob("*.out"))


@contextlib.contextmanager
def slack_server(port: int, inbox: Inbox) -> Iterator[None]:
    """Takes what Slack's webhooks take."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.posts.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def smtp_server(port: int, inbox: Inbox) -> Iterator[None]:
    """Takes mails of those who log in."""

    def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        if isinstance(data, LoginPassword):
            inbox.logins.add(data.password.decode())
        return AuthResult(success=True)

    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=port,
        authenticator=log_in,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],  # which Alertmanager and this server understand differently
    )
    controller.start()
    try:
        yield
    finally:
        controller.stop()


def rules_of_files() -> list[dict[str, Any]]:
    files = (REPOSITORY / "deploy/prometheus/rules").glob("*.yml")
    return [
        rule
        for file in files
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def of_rules() -> dict[str, str]:
    """Expression → where it stands."""
    return {rule["expr"]: rule.get("alert") or rule["record"] for rule in rules_of_files()}


def of_dashboards() -> dict[str, str]:
    """The same of panels, annotations and variables, with Grafana's variables filled in."""
    found = {}

    def walk(node: Any, where: str) -> None:
        if isinstance(node, dict):
            source = node.get("datasource")
            if isinstance(source, dict) and source.get("type") == "prometheus":
                variable = re.fullmatch(r"label_values\((.+), *\w+\)", str(node.get("query", "")))
                expression = variable[1] if variable else node.get("expr")
                if expression:
                    found[filled_in(expression)] = where
            for value in node.values():
                walk(value, where)
        elif isinstance(node, list):
            for value in node:
                walk(value, where)

    for file in sorted((REPOSITORY / "deploy/grafana/dashboards").glob("*.json")):
        walk(json.loads(file.read_text()), file.name)
    return found


def of_runbooks() -> dict[str, str]:
    """The same of the pages of alerts."""
    pages = (REPOSITORY / "docs/runbooks/alerts").glob("*.md")
    return {
        expression.strip(): page.name
        for page in pages
        for expression in re.findall(r"^```promql\n(.*?)^```", page.read_text(), re.M | re.S)
    }


def filled_in(expression: str) -> str:
    expression = re.sub(r"\$(__rate_interval|__interval|__range)\b|\$\{__\w+\}", "1m", expression)
    return re.sub(r'"\$(\w+)"', '".*"', expression)


def selectors(expression: str) -> set[str]:
    """The selectors of an expression, without range, offset and what it compares with."""
    found = set()

    def visit(node: Any) -> bool:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
            matchers = ",".join(
                f"{each.name}{operators[str(each.op).rpartition('.')[2]]}{json.dumps(each.value)}"
                for each in selector.matchers.matchers
                if each.name != "__name__"
            )
            found.add(f"{selector.name or ''}{{{matchers}}}")
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def has_series(stack: Stack, selector: str) -> bool:
    name = selector.partition("{")[0]
    if NOT_RUN_HERE.fullmatch(name) or selector.replace('"', "") in NOT_HERE:
        return True
    return bool(get(f"{stack.prometheus}/api/v1/series", **{"match[]": selector})["data"])


def get(url: str, **parameters: str) -> Any:
    return httpx.get(url, params=parameters, timeout=60, trust_env=False).raise_for_status().json()


def get_or_none(url: str, name: str) -> Any:
    with contextlib.suppress(httpx.HTTPError):
        return get(url)[name]
    return None


def without_tls(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}sslmode=disable"
