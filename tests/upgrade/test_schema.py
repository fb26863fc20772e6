"""Migrations since the previous release only add to the schema: expand now, contract a release later."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from marquee.store.migrations import HEAD, alembic_config, upgrade

pytestmark = pytest.mark.integration

COLUMNS = """
    SELECT table_name, column_name,
           udt_name || coalesce('(' || character_maximum_length || ')', '') AS type,
           is_nullable = 'YES' AS nullable,
           column_default IS NOT NULL OR is_identity = 'YES' OR is_generated <> 'NEVER' AS filled
    FROM information_schema.columns WHERE table_schema = 'public'
"""
RULES = """
    SELECT conrelid::regclass::text AS table_name, conname AS name, pg_get_constraintdef(oid) AS definition,
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid <> 0
    UNION ALL
    SELECT indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid),
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey))
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indisunique AND relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), ARRAY[]::text[]
    FROM pg_trigger WHERE NOT tgisinternal
"""


@dataclass(frozen=True)
class Schema:
    """Columns by table and name; constraints, unique indexes and triggers by their name."""

    columns: dict[tuple[str, str], tuple[str, bool, bool]]
    rules: dict[str, tuple[str, str, tuple[str, ...]]]

    @classmethod
    def of(cls, connection: Connection) -> "Schema":
        columns = {(row[0], row[1]): (row[2], row[3], row[4]) for row in connection.execute(text(COLUMNS))}
        rules = {row[1]: (row[0], row[2], tuple(row[3])) for row in connection.execute(text(RULES))}
        return cls(columns, rules)


def contractions(before: Schema, after: Schema) -> list[str]:
    """What code written for the schema before would run into after."""
    found = []
    tables = {table for table, _ in before.columns}
    for (table, column), (kind, nullable, _) in before.columns.items():
        now = after.columns.get((table, column))
        if now is None:
            found.append(f"{table}.{column} is gone")
        elif now[0] != kind:
            found.append(f"{table}.{column} is {now[0]}, was {kind}")
        elif nullable and not now[1]:
            found.append(f"{table}.{column} must not be null")
    for (table, column), (_, nullable, filled) in after.columns.items():
        if table in tables and (table, column) not in before.columns and not nullable and not filled:
            found.append(f"{table}.{column} is new, not null, and has no default")
    for name, (table, definition, columns) in after.rules.items():
        changed = before.rules.get(name, ("", "", ()))[1] != definition
        # Of new columns alone, older code keeps every rule: it leaves them empty.
        if (
            table in tables
            and changed
            and not any((table, column) not in before.columns for column in columns)
        ):
            found.append(f"{table} has a new rule: {definition}")
    return found


@pytest.fixture
def connection(postgres) -> Iterator[Connection]:
    """To an empty database."""
    name = f"schema_{uuid4().hex}"
    server = create_engine(as_driver(postgres.url_of("postgres")), isolation_level="AUTOCOMMIT")
    with server.connect() as admin:
        admin.exec_driver_sql(f"CREATE DATABASE {name}")
        engine = create_engine(as_driver(postgres.url_of(name)))
        with engine.connect() as opened:
            yield opened
        engine.dispose()
        admin.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


def as_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="module")
def previous_head(previous) -> str:
    """The revision that the previous release knows as the newest."""
    content = (previous.source / "marquee" / "store" / "migrations" / "__init__.py").read_text()
    return re.search(r'^HEAD: Final = "(\w+)"$', content, re.MULTILINE).group(1)


def migrate(connection: Connection, to: str, before: str | None = None) -> Schema:
    upgrade(connection, before, address="test", to=to)
    made = Schema.of(connection)
    connection.rollback()
    return made


def test_migrations_since_the_previous_release_only_add(connection, previous_head):
    before = migrate(connection, previous_head)
    assert contractions(before, migrate(connection, "head", previous_head)) == []


def test_previous_release_takes_the_new_schema_for_its_own(connection, previous, previous_head):
    migrate(connection, "head")
    noted = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert noted <= previous_head, f"revision {HEAD} says that the previous release does not run with it"
    assert (previous_head == HEAD) or connection.scalar(
        text("SELECT version_num FROM schema_revision")
    ) == HEAD


def test_database_that_the_previous_release_made_keeps_its_rows(connection, previous_head):
    migrate(connection, previous_head)
    connection.exec_driver_sql("DROP TABLE schema_revision")  # as the previous release leaves it
    connection.exec_driver_sql("INSERT INTO erasures (user_hash) VALUES ('x')")
    connection.commit()
    migrate(connection, "head", previous_head)
    assert connection.scalar(text("SELECT count(*) FROM erasures")) == 1
    assert connection.scalar(text("SELECT version_num FROM schema_revision")) == HEAD


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE runs DROP COLUMN error", "runs.error is gone"),
        ("ALTER TABLE runs RENAME COLUMN error TO failure", "runs.error is gone"),
        ("DROP TABLE predictions CASCADE", "predictions.* is gone"),
        ("ALTER TABLE runs ALTER COLUMN error SET NOT NULL", "runs.error must not be null"),
        ("ALTER TABLE runs ALTER COLUMN error TYPE varchar(10)", r"runs.error is varchar\(10\), was text"),
        ("ALTER TABLE runs ADD COLUMN more text NOT NULL", "runs.more is new, not null"),
        ("ALTER TABLE runs ADD CHECK (length(error) < 10)", "runs has a new rule"),
        ("CREATE UNIQUE INDEX ON runs (error)", "runs has a new rule"),
    ],
)
def test_what_takes_something_away_is_noticed(connection, statement, said):
    before = migrate(connection, "head")
    connection.exec_driver_sql(statement)
    assert re.search(said, "; ".join(contractions(before, Schema.of(connection))))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE runs ADD COLUMN more text",
        "ALTER TABLE runs ADD COLUMN more int NOT NULL DEFAULT 0",
        "CREATE TABLE another (id int PRIMARY KEY)",
        "CREATE INDEX ON runs (error)",
        "ALTER TABLE runs ALTER COLUMN pipeline DROP NOT NULL",
    ],
)
def test_what_only_adds_passes(connection, statement):
    before = migrate(connection, "head")
    connection.exec_driver_sql(statement)
    assert contractions(before, Schema.of(connection)) == []


def test_new_migrations_say_by_default_that_older_code_does_not_run():
    template = Path(alembic_config().get_main_option("script_location"), "script.py.mako")
    assert "runs_from = ${repr(up_revision)}" in template.read_text()
