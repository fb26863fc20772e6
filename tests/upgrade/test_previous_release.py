"""What the previous release leaves is carried over, and it runs beside this one on the new schema."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import httpx
import psycopg
import pytest
from releases import lists_of, rows_of, send
from waiting import until

from marquee.config import Settings
from marquee.pipelines.upgrade import look, upgrade
from marquee.store import bundles, formats, majors
from marquee.store.embedded import EmbeddedServer
from marquee.store.migrations import HEAD
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]


def run_through(client: httpx.Client, key: str) -> None:
    """Ask for batch inference, and wait until a worker has done it."""
    await_end(client, key, asked(client, key, "/run/model-inference"))


def asked(client: httpx.Client, key: str, path: str) -> str:
    """Ask for a run; its id."""
    headers = {"authorization": f"Bearer {key}"}
    answer = client.post(path, params={"wait": "false"}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


def await_end(client: httpx.Client, key: str, run_id: str) -> None:
    """Wait until a worker has done it."""

    def ended() -> bool:
        answer = client.get(f"/v1/runs/{run_id}", headers={"authorization": f"Bearer {key}"})
        status = answer.json()["status"]
        assert status not in ("failed", "cancelled"), answer.text
        return bool(status == "succeeded")

    until(ended)


def jobs_of(url: str) -> int:
    """How many jobs the queue has."""
    with psycopg.connect(url) as connection:
        return rows_of(connection, "queue.procrastinate_jobs")


def test_home_of_the_previous_release_is_carried_over(left_home, present, older_postgres, missing):
    if older_postgres is None:
        missing("a PostgreSQL older than the bundled one")
    home = left_home.path
    before = subprocess.run(
        [sys.executable, "-m", "marquee.cli", "upgrade", "--check", "--json"],
        env=present.environment(home), cwd=home.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert before.returncode == 1, before.stderr
    assert next(part["name"] for part in json.loads(before.stdout)["parts"] if part["due"]) == "postgresql"
    made = json.loads(present.marquee(home, "upgrade", "--json"))
    assert [part["name"] for part in made["parts"] if part["done"]] == ["postgresql", "schema"]
    assert not [note for part in made["parts"] for note in part["notes"]]
    assert made["kept"] == [str(home / "postgres" / f"data-{left_home.major}.old")]
    assert not json.loads(present.marquee(home, "upgrade", "--check", "--json"))["due"]

    with EmbeddedServer.start(Settings(home=home).paths) as server:
        with present.api(home, left_home.keys["service"], **left_home.environment) as client:
            assert client.get("/health").json()["champion"] == left_home.champion
            assert lists_of(client, list(left_home.lists)) == left_home.lists
            send(client, 2)
            operator = {"authorization": f"Bearer {left_home.keys['operator']}"}
            assert client.get("/v1/runs", headers=operator).status_code == 200
            assert client.get("/v1/runs", headers={"authorization": "Bearer none"}).status_code == 401
        with psycopg.connect(server.url) as connection:
            assert rows_of(connection, "interactions") == left_home.events + 1
        with psycopg.connect(server.url_of("mlflow")) as connection:
            assert rows_of(connection, "registered_models") == 2

    assert json.loads(present.marquee(home, "upgrade", "--clean", "--json"))["removed"] == made["kept"]
    assert not list((home / "postgres").glob("data-*"))


def test_both_releases_serve_and_work_side_by_side_while_and_after_the_schema_is_migrated(
    left_home, present, previous
):
    home, keys, more = left_home.path, left_home.keys, left_home.environment
    paths = Settings(home=home).paths
    majors.carry_over(paths, told=lambda *_: None)
    with EmbeddedServer.start(paths) as server, previous.api(home, keys["service"], **more) as old:
        with sending(old, 2) as sent:
            made = json.loads(present.marquee(home, "upgrade", "--json"))
        assert [part["name"] for part in made["parts"] if part["done"]] == ["schema"]
        assert sent
        with present.api(home, keys["service"], **more) as new:
            assert new.get("/health").json()["champion"] == left_home.champion
            with psycopg.connect(server.url) as connection:
                assert rows_of(connection, "interactions") == left_home.events + len(sent)
                send(old, 3)
                send(new, 4)
                connection.rollback()
                assert rows_of(connection, "interactions") == left_home.events + len(sent) + 2
            users = list(left_home.lists)
            assert lists_of(old, users) == lists_of(new, users)
            with previous.running(home, "worker", **more):  # started on a schema that it does not know
                run_through(new, keys["operator"])
                run_id = asked(new, keys["operator"], "/run/monitor")  # which the previous one drops
                until(lambda: not jobs_of(server.url))
            with present.running(home, "worker", **more):
                run_through(old, keys["operator"])
                await_end(new, keys["operator"], run_id)
            # A champion of this release is one that the previous one serves, and that it can roll back.
            present.marquee(home, "train", "-m", "popularity", **more)
            present.marquee(home, "promote", "--force", "--reason", "a test", **more)
            for client in (old, new):
                until(lambda: client.get("/health").json()["champion"].startswith("popularity/"))  # noqa: B023
            previous.marquee(home, "rollback", **more)
            for client in (old, new):
                until(lambda: client.get("/health").json()["champion"] == left_home.champion)  # noqa: B023
    with previous.api(home, keys["service"], **more) as again:  # all of it rolled back
        assert again.get("/health").json()["champion"] == left_home.champion
        send(again, 5)


@contextmanager
def sending(client: httpx.Client, user: int) -> Iterator[list[str]]:
    """Keys of events that are sent, one after the other, until the block ends; none may fail."""
    keys: list[str] = []
    ended = Event()

    (item, *_) = lists_of(client, [user])[user]

    def work() -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, trust_env=False) as own:
            while not ended.is_set():
                keys.append(send(own, user, item))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            yield keys
        finally:
            ended.set()
            done.result()


def test_backup_of_the_previous_release_is_restored_into_a_database_of_its_own(
    left_home, tmp_path, present, previous, postgres
):
    home = left_home
    present.marquee(home.path, "upgrade")
    made = json.loads(previous.marquee(home.path, "backup", "--json"))  # of the new schema
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored_of_previous")
    url = postgres.url_of("restored_of_previous")
    previous.marquee(tmp_path / "other", "models", MARQUEE_DATABASE__URL=url)  # makes the tables
    restored = json.loads(present.marquee(home.path, "restore", "--into", url, "--json"))
    assert sum(restored["rows"].values()) == made["rows"]
    with psycopg.connect(url) as connection:
        assert rows_of(connection, "interactions") == home.events
        assert connection.execute("SELECT version_num FROM schema_revision").fetchone() == (HEAD,)


def test_deployed_bundles_of_an_older_format_are_converted_beside_the_published_ones(
    left_home, tmp_path, database, monkeypatch: pytest.MonkeyPatch
):
    def renamed(contents: formats.Contents) -> formats.Contents:
        meta = {**contents.manifest["meta"], "converted": True}
        return formats.Contents({**contents.manifest, "meta": meta}, contents.arrays, contents.cards)

    monkeypatch.setattr(formats, "FORMAT_VERSION", 2)
    monkeypatch.setitem(formats.CONVERTERS, 1, renamed)
    settings = Settings(home=left_home.path, database={"url": database.url})
    objects = ObjectStore.of(settings)
    *_, newest = (ref.key for ref in objects.list("bundles/ease") if ref.key.endswith(".manifest.json"))
    manifest = bundles.read_manifest(objects, newest)
    with database.begin() as connection:
        deployments.append(
            connection, "champion", bundle=newest, digest=manifest["digest"], model="ease",
            version=manifest["version"], deployed_by="test", reason="test",
        )  # fmt: skip
    due = {part.name: part.due for part in look(settings)}
    assert due == {"schema": False, "bundles": True}
    done = {part.name: part.done for part in upgrade(settings, told=lambda *_: None)}
    assert done["bundles"] is not None
    assert done["schema"] is None
    loaded = bundles.load(objects, newest, settings.paths.bundles)
    assert loaded.manifest["meta"]["converted"]
    assert loaded.manifest["format_version"] == 2
    assert (loaded.ref.key, loaded.ref.digest) == (newest, manifest["digest"])
    assert bundles.read_manifest(objects, newest)["format_version"] == 1
    with Database.open(settings) as opened, opened.begin() as connection:
        assert deployments.current(connection, "champion").bundle == newest
