"""Secrets planted everywhere that they can be, and looked for in all that real servers write."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import httpx
import psycopg
import pytest
from free_ports import free_port
from waiting import until

from marquee.config import Settings
from marquee.jobs import Queue
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, keys, outbox, runs

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 90
PLANTED = {
    "database password": "pg-Pl4nted-word",
    "TMDB token": "tmdb-Pl4nted-token",
    "TMDB key": "0123456789abcdef0123456789abcdef",
    "S3 secret": "wJalrXUtnFEMI/K7MDENG/Pl4nted",
    "MLflow password": "ml-Pl4nted-word",
    "cookie": "cookie-Pl4nted",
    "e-mail": "pl4nted.person@example.org",
    "body": "body-Pl4nted-word",
}


class Refusing(BaseHTTPRequestHandler):
    """TMDB, MLflow and S3 that refuse whoever asks."""

    def _refuse(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_HEAD = _refuse  # noqa: N815 - named by the standard library

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server_url):
    """A database that asks for a password: that of a role made for it."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{PLANTED['database password']}'")
        connection.execute(f"CREATE DATABASE {name} OWNER {name}")
        host = server_url.rpartition("@")[2].partition("/")[0]
        yield f"postgresql://{name}:{PLANTED['database password']}@{host}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def environment(tmp_path, url, refusing, port):
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id = AKIAPLANTED\naws_secret_access_key = {PLANTED['S3 secret']}\n"
    )
    here = f"http://127.0.0.1:{refusing}"
    return {
        **os.environ,
        "MARQUEE_HOME": str(tmp_path / "home"),
        "MARQUEE_PORT": str(port),
        "MARQUEE_LOG__LEVEL": "debug",
        "MARQUEE_LOG__FILE": str(tmp_path / "logs" / "marquee.log"),
        "MARQUEE_DATABASE__URL": url,
        "MARQUEE_TMDB__BEARER_TOKEN": PLANTED["TMDB token"],
        "MARQUEE_TMDB__API_KEY": PLANTED["TMDB key"],
        "MARQUEE_TMDB__BASE_URL": f"{here}/3",
        "MARQUEE_OBJECTS__URL": "s3://bucket",
        "MARQUEE_OBJECTS__ENDPOINT": here,
        "MARQUEE_OBJECTS__RETRIES": "0",
        "MARQUEE_OBJECTS__CREDENTIALS_FILE": str(credentials),
        "MARQUEE_MLFLOW__TRACKING_URI": here.replace("://", f"://me:{PLANTED['MLflow password']}@"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MARQUEE_BACKUP__EVERY_HOURS": "0",
        "MARQUEE_MONITOR__EVERY_MINUTES": "0",
    }


@pytest.fixture
def port():
    return free_port()


@contextlib.contextmanager
def running(name, environment, folder):
    """`marquee NAME`, its standard output in a file of that name and its standard error in another."""
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "marquee.cli", name], env=environment, stdout=out, stderr=err, cwd=folder
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def is_up(client):
    with contextlib.suppress(httpx.TransportError):
        return client.get("/livez").status_code == 200
    return False


def ask(client, key):
    """Whatever a careless client may send."""
    secret, mail = PLANTED["body"], PLANTED["e-mail"]
    headers = {
        "authorization": f"Bearer {key}",
        "cookie": f"marquee_session={PLANTED['cookie']}; other={PLANTED['cookie']}",
    }
    body = {"password": secret, "token": secret, "email": mail, "name": mail, "user_id": secret}
    for path in ("/predict", "/v1/events", "/v1/users/1/profile", "/run/train", "/no/such/path"):
        for method in ("POST", "PUT"):
            client.request(method, path, headers=headers, json=body)
    client.post("/predict", headers=headers, content=f'{{"api_key": "{key}"')
    client.post("/predict", headers=headers, data={"password": secret, "email": mail})
    client.get("/health", params={"key": key, "token": secret, "email": mail}, headers=headers)
    client.get(f"/v1/runs/{key}", headers=headers)
    client.get(f"/v1/{mail}/x/password={secret}", headers=headers)
    client.get(f"/v1/{mail.replace('@', '%40')}", headers=headers)
    client.get("/health", headers={**headers, "authorization": f"Bearer {key}x"})
    basic = base64.b64encode(f"me:{secret}".encode()).decode()
    client.get("/health", headers={"authorization": f"Basic {basic}"})
    client.get("/health", headers={**headers, "x-request-id": key})
    client.get("/health", headers={**headers, "x-request-id": f"{mail} x"})
    client.get("/health", headers={**headers, "x-request-id": "x" * 129})
    return client.get("/health", headers={**headers, "x-request-id": "find-me"})


@pytest.mark.slow
def test_nothing_that_servers_write_holds_a_planted_secret(tmp_path, url, environment, port):
    with Database.open(Settings(home=tmp_path / "home", database={"url": url})) as database:
        queue = Queue.open(database)
        with database.begin() as connection:
            _, key = keys.create(connection, "a test", "operator")
            outbox.add(connection, ["raw/ab/planted.json"])
            deployments.append(
                connection, "champion", bundle="b", digest="d", model="ease", version="1",
                deployed_by="a test", reason="to see",
            )  # fmt: skip
        with (
            running("serve", environment, tmp_path) as process,
            running("worker", environment, tmp_path),
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS, trust_env=False
            ) as client,
        ):
            until(lambda: is_up(client), (tmp_path / "serve.err").read_text, process)
            assert ask(client, key).headers["x-request-id"] == "find-me"
            headers = {"authorization": f"Bearer {key}", "x-request-id": "asked-for-it"}
            failed = client.post("/run/prepare-data", headers=headers)
            assert failed.status_code >= 500, failed.text
            with database.begin() as connection:
                mirrored = queue.submit(connection, "mirror").run_id
                prepared = runs.recent(connection, pipeline="prepare")[0]

            def ended():
                with database.begin() as connection:
                    return runs.get(connection, mirrored).finished

            until(ended)
        with database.begin() as connection:
            kept = str(connection.exec_driver_sql("SELECT * FROM run_logs").all())
    written = {path.name: path.read_text() for path in tmp_path.glob("*.*")} | {
        f"logs/{path.name}": path.read_text() for path in (tmp_path / "logs").glob("marquee*.log")
    }
    written.pop("credentials", None)
    for name, text in {**written, "run_logs": kept}.items():
        for what, secret in {**PLANTED, "API key": key.split("_", 2)[2]}.items():
            assert secret not in text, f"{what} in {name}"
    said = {
        name: [json.loads(line) for line in written[f"{name}.out"].splitlines()]
        for name in ("serve", "worker")
    }
    assert written["serve.err"] == written["worker.err"] == ""
    of_files = [
        json.loads(line) for name, text in written.items() if "/" in name for line in text.splitlines()
    ]
    assert len(of_files) == len(said["serve"]) + len(said["worker"])
    requests = [line for line in said["serve"] if line["event"] == "api.request"]
    assert all(line["request_id"] for line in requests)
    assert all(len(line["request_id"]) <= 128 for line in requests)
    asked = {line["event"]: line for line in said["serve"] if line.get("request_id") == "asked-for-it"}
    assert asked["run.submitted"]["run_id"] == asked["api.request"]["run_id"] == str(prepared.run_id)
    of_run = [line for line in said["worker"] if line.get("run_id") == str(prepared.run_id)]
    assert {"run.started", "run.failed"} <= {line["event"] for line in of_run}
