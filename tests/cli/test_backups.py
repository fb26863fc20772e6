"""`marquee backup` and `marquee restore` as people run them."""

import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from marquee.cli import app
from marquee.cli.output import errors_as_lines
from marquee.config import Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database


def run(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    return ended.stdout


def test_backup_is_listed_verified_and_restored(
    home: Settings, database: Database, postgres: EmbeddedServer
) -> None:
    made = json.loads(run("backup", "--json"))
    assert made["rows"] > 20
    (listed,) = json.loads(run("backup", "list", "--json"))
    assert listed["backup"] == made["backup"]
    assert json.loads(run("backup", "verify", made["backup"], "--json"))["whole"]
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE cli_restore")
        try:
            url = postgres.url_of("cli_restore")
            assert json.loads(run("restore", "--dry-run", "--json"))["backup"] == made["backup"]
            done = json.loads(run("restore", made["backup"][:15], "--into", url, "--json"))
            assert done["rows"]["items"] == 20
            with psycopg.connect(url) as restored:
                assert restored.execute("SELECT count(*) FROM items").fetchone() == (20,)
        finally:
            connection.execute("DROP DATABASE cli_restore WITH (FORCE)")


def test_other_database_is_given_its_own_password(
    home: Settings, postgres: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("backup", "--json")
    (tmp_path / "secret").write_text("that of the deployment")
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE cli_password")
        try:
            url = postgres.url_of("cli_password")
            monkeypatch.setenv("MARQUEE_DATABASE__URL", "postgresql://marquee@127.0.0.1:1/marquee")
            monkeypatch.setenv("MARQUEE_DATABASE__PASSWORD_FILE", str(tmp_path / "secret"))
            given = url.replace("@", ":its%20own@", 1)
            assert given != url
            assert json.loads(run("restore", "--into", given, "--json"))["rows"]["items"] == 20
        finally:
            connection.execute("DROP DATABASE cli_password WITH (FORCE)")


def test_damage_is_named_with_exit_code_one(home: Settings) -> None:
    run("backup", "--json")
    damaged = next((home.paths.objects / "tables/items").iterdir())
    damaged.write_bytes(b"something else")
    found = json.loads(run("backup", "verify", "--json", code=1))
    assert list(found["damaged"]) == [f"tables/items/{damaged.name}"]
    with pytest.raises(SystemExit), errors_as_lines(False):
        run("restore", "--dry-run")


def test_next_backup_mends_what_was_damaged(home: Settings) -> None:
    run("backup", "--json")
    damaged = next((home.paths.objects / "tables/items").iterdir())
    damaged.write_bytes(b"something else")
    run("backup", "--json")
    assert json.loads(run("backup", "verify", "--json"))["whole"]


def test_prune_keeps_what_a_kept_backup_needs(home: Settings) -> None:
    for _ in range(3):
        run("backup", "--json", "--keep-all")
    would = json.loads(
        run("backup", "prune", "--keep-daily", "1", "--keep-weekly", "0", "--dry-run", "--json")
    )
    assert (len(would["kept"]), len(would["removed"])) == (1, 2)
    assert len(json.loads(run("backup", "list", "--json"))) == 3
    pruned = json.loads(run("backup", "prune", "--keep-daily", "1", "--keep-weekly", "0", "--json"))
    assert pruned["removed"] == would["removed"]
    assert json.loads(run("backup", "verify", "--json"))["whole"]


def test_folder_without_backups_is_said(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors_as_lines(False):
        run("restore", "--dry-run")
    assert "There is no backup" in capsys.readouterr().err


def test_files_that_came_in_after_the_backup_are_loaded_again(
    home: Settings, database: Database, postgres: EmbeddedServer, tmp_path: Path
) -> None:
    from datetime import UTC, datetime, timedelta

    run("backup", "--json")
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,occurred_at\n7,1,2026-01-01T00:00:00Z\n")
    run("ingest", "interactions", str(log), "--source", "mine")
    until = f"{datetime.now(UTC) + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE cli_until")
        try:
            url = postgres.url_of("cli_until")
            done = json.loads(run("restore", "--until", until, "--into", url, "--json"))
            assert sorted(done["replayed"].values()) == [0, 1]  # the catalogue was there already
            assert "HTTP" in done["not_replayed"]
            with psycopg.connect(url) as restored:
                rows = restored.execute("SELECT user_id, source FROM interactions").fetchall()
            assert rows == [(7, "mine")]
        finally:
            connection.execute("DROP DATABASE cli_until WITH (FORCE)")


def test_who_was_erased_since_is_told_by_the_database_of_the_settings_or_the_one_named(
    home: Settings, database: Database, postgres: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marquee.store.repositories import erasures

    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle) "
            "SELECT i, 1, '{}', '{}', 'b' FROM generate_series(1, 3) AS i"
        )
    run("backup", "--json")
    with database.begin() as connection:
        erasures.mark(connection, 2, home.paths.secrets)
        erasures.delete_rows(connection, 2)
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        try:
            for name, arguments in (
                ("cli_erased_a", ()),
                ("cli_erased_b", ("--erasures-from", database.url)),
            ):
                connection.execute(f"CREATE DATABASE {name}")
                if arguments:
                    monkeypatch.setenv("MARQUEE_DATABASE__URL", postgres.url_of("nowhere"))
                url = postgres.url_of(name)
                done = json.loads(run("restore", "--into", url, *arguments, "--json"))
                assert (done["erased"], done["erasures_from"]) == (1, database.address)
                with psycopg.connect(url) as restored:
                    rows = restored.execute("SELECT user_id FROM predictions ORDER BY 1").fetchall()
                assert rows == [(1,), (3,)]
        finally:
            for name in ("cli_erased_a", "cli_erased_b"):
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
