"""A database with a row of every kind, an object directory, and an empty database to restore into."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from marquee.config import Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

EVERY_TYPE = """
INSERT INTO users (user_id, kind) SELECT i, 'live' FROM generate_series(1, 50) AS i;
INSERT INTO interactions
    (user_id, item_id, event, rating, watch_seconds, occurred_at, source, event_key, request_id)
SELECT 1 + mod(i, 50), i, 'watch', CASE WHEN mod(i, 3) = 0 THEN 7.5 END, 60, now() - i * interval '1 minute',
    'log', 'ö' || i, CASE WHEN mod(i, 2) = 0 THEN gen_random_uuid() END FROM generate_series(1, 1000) AS i;
INSERT INTO items (item_id, title, genres, release_date, boost, source)
VALUES (1, 'Amélie', '{Drama,NULL,"a, b"}', '2001-04-25', 1.5, 'x'),
    (2, '기생충', '{}', NULL, 1, 'x'), (3, 'ü', NULL, NULL, 1, 'x');
INSERT INTO item_texts (item_id, language, title) VALUES (2, 'en', 'Parasite');
INSERT INTO item_facts (item_id, observed_at, popularity)
SELECT mod(i, 3), now() - i * interval '1 day', i FROM generate_series(1, 90) AS i;
INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface)
SELECT gen_random_uuid(), now() - i * interval '1 hour', 1 + mod(i, 50), '{1,2}', '{0.5,-Infinity}', 'b', 'x'
FROM generate_series(1, 100) AS i;
INSERT INTO shadow_answers
SELECT request_id, served_at, 'c', item_ids, scores, 0.5, 1.25 FROM impressions LIMIT 10;
INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle) VALUES (1, 1, '{}', '{}', 'b');
INSERT INTO runs (run_id, pipeline, status, parameters, counts)
VALUES (gen_random_uuid(), 'x', 'failed', '{"a": 1.10, "ü": [null]}', '{}');
INSERT INTO run_logs (run_id, logged_at, level, event) SELECT run_id, now(), 'info', 'x' FROM runs;
INSERT INTO quarantine (source, reason, content, digest) VALUES ('s', 'r', '{"user_id": 3}', '\\x00ff');
INSERT INTO recommendation_batches (bundle, is_current) VALUES ('b', true);
INSERT INTO recommendations VALUES (1, 1, '{3,2,1}', '{3,2,1}');
INSERT INTO api_keys (key_id, name, secret_hash, role) VALUES ('k', 'n', '\\xdeadbeef', 'viewer');
"""


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    """A directory of its own."""
    return ObjectStore(tmp_path / "home/objects")


@pytest.fixture
def filled(database: Database) -> Database:
    """Rows of every type and kind."""
    with psycopg.connect(database.url) as connection:
        connection.execute(EVERY_TYPE)
    return database


@pytest.fixture
def empty(postgres: EmbeddedServer, tmp_path: Path) -> Iterator[Database]:
    """A database without anything, not prepared."""
    name = f"empty_{uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        settings = Settings(home=tmp_path / "other", database={"url": postgres.url_of(name)})
        with Database.open(settings, prepare=False) as opened:
            yield opened
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
