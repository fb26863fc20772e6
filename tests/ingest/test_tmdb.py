"""The TMDB source against a server on loopback."""

import asyncio
import itertools
import logging
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import stamina
from pydantic import SecretStr
from starlette.responses import JSONResponse

from marquee.config import TmdbSettings
from marquee.errors import ConfigError, DataError, NotFoundError, SourceUnavailableError
from marquee.ingest import ingest_tmdb
from marquee.ingest.tmdb import KeptAnswers
from marquee.ingest.tmdb_client import TmdbClient

NOW = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_backoff() -> Iterator[None]:
    """Retries follow at once; the pauses that the server asks for stay."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def ask(settings: TmdbSettings, *paths: str) -> list[bytes]:
    async def run() -> list[bytes]:
        client = TmdbClient(settings)
        try:
            return await asyncio.gather(*(client.get(path, {"language": "en-US"}) for path in paths))
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_popular_movies_arrive_with_facts_and_texts(database, objects, tmdb, tmdb_settings, tables):
    report = ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    assert (report.read, report.inserted, report.quarantined) == (45, 45, 0)
    content = tables(database)
    first = content["items"][0]
    assert first["item_id"] == 1
    assert first["people"] == ["Boss", "First", "Second"]
    assert first["keywords"] == ["support group"]
    assert first["collection_id"] == 10
    assert len(content["item_facts"]) == 45
    assert {row["observed_at"] for row in content["item_facts"]} == {datetime(2026, 5, 17, tzinfo=UTC)}
    texts = {row["language"]: row for row in content["item_texts"] if row["item_id"] == 1}
    assert set(texts) == {"en", "es", "ko"}
    assert texts["en"]["overview"] == "About 1."
    assert texts["ko"]["title"] == "영화"
    by_id = {row["item_id"]: row for row in content["items"]}
    assert by_id[5]["poster_path"] is None
    assert by_id[7]["release_date"] is None
    assert by_id[11]["runtime_minutes"] is None


def test_second_run_of_a_day_changes_nothing(database, objects, tmdb, tmdb_settings, tables):
    first = ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    before = tables(database)
    second = ingest_tmdb(database, objects, tmdb_settings, now=NOW + timedelta(hours=5))
    assert (second.inserted, second.updated, second.duplicates) == (0, 0, 45)
    assert tables(database) == before
    assert second.raw_keys == first.raw_keys


def test_answers_that_were_kept_make_the_same_rows_without_tmdb(
    database, objects, tmdb, tmdb_settings, tables
):
    korean = tmdb_settings.model_copy(update={"language": "ko-KR", "region": "KR", "movies": 3})
    report = ingest_tmdb(database, objects, korean, now=NOW)
    made = tables(database)
    with database.begin() as connection:
        connection.exec_driver_sql("TRUNCATE items, item_facts, item_texts")
    asked = len(tmdb.arrivals)
    kept = KeptAnswers(database, objects, tmdb_settings.model_copy(update={"region": "KR"}))
    again = [kept.read(objects.local_path(key), NOW) for key in report.raw_keys]
    assert sum(one.inserted for one in again) == report.inserted == 3
    assert tables(database) == made
    assert len(tmdb.arrivals) == asked


def test_next_day_appends_facts(database, objects, tmdb, tmdb_settings, tables):
    ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    tmdb.changed[3] = {"popularity": 7.5, "title": "Renamed"}
    report = ingest_tmdb(database, objects, tmdb_settings, now=NOW + timedelta(days=1))
    assert (report.updated, report.duplicates) == (1, 44)
    facts = [row["popularity"] for row in tables(database)["item_facts"] if row["item_id"] == 3]
    assert len(facts) == 2
    assert 7.5 in facts


def test_korean_deployment_gets_korean_words_and_common_genres(
    database, objects, tmdb, tmdb_settings, tables
):
    korean = tmdb_settings.model_copy(update={"language": "ko-KR", "region": "KR", "movies": 3})
    ingest_tmdb(database, objects, korean, now=NOW)
    item = tables(database)["items"][0]
    assert item["title"] == "영화 1"
    assert item["genres"] == ["Drama", "Thriller"]
    popular = tmdb.queries[tmdb.paths().index("/movie/popular")]
    assert popular["region"] == "KR"
    assert popular["language"] == "ko-KR"


def test_repeated_items_are_asked_for_once(database, objects, tmdb, tmdb_settings):
    tmdb.first_of_page = {2: 11, 3: 31}
    report = ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    asked = Counter(path for path in tmdb.paths() if path[7:].isdecimal())
    assert report.inserted == 45
    assert set(asked.values()) == {1}


def test_pages_end_at_500_whatever_the_total(database, objects, tmdb, tmdb_settings):
    tmdb.total_pages, tmdb.movies = 36_052, 5
    report = ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    pages = [int(query["page"]) for query in tmdb.queries if "page" in query]
    assert report.inserted == 5
    assert max(pages) == 500


@pytest.mark.parametrize("fault", ["500", "503", "429", "broken", "hang"])
def test_passing_fault_is_retried(database, objects, tmdb, tmdb_settings, fault):
    faults = {
        "500": tmdb.error(500, 11, "Internal error: Something went wrong, contact TMDb."),
        "503": JSONResponse("down", 503),
        "429": tmdb.error(429, 25, "Your request count (#) is over the allowed limit.", {"Retry-After": "0"}),
        "broken": tmdb.broken_json(),
        "hang": None,
    }
    tmdb.faults = {"/movie/popular": [faults[fault]], "/movie/7": [faults[fault]]}
    settings = tmdb_settings.model_copy(update={"timeout_seconds": 1.0 if fault == "hang" else 10})
    report = ingest_tmdb(database, objects, settings, now=NOW)
    assert (report.inserted, report.quarantined) == (45, 0)
    asked = tmdb.paths().count("/movie/7")
    # On a busy machine the second request may take too long as well.
    assert asked == 2 or (fault == "hang" and asked > 2)


def test_retry_after_holds_back_every_task(tmdb, tmdb_settings):
    tmdb.faults = {"/movie/1": [tmdb.error(429, 25, "Slow down.", {"Retry-After": "3"})]}
    ask(
        tmdb_settings.model_copy(update={"requests_per_second": 20.0}), *(f"/movie/{i}" for i in range(1, 31))
    )
    moments = [moment for moment, _ in tmdb.arrivals]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert len(moments) == 31
    assert max(gaps) > 0.8


def test_retry_after_may_be_a_date(tmdb, tmdb_settings):
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    later = {"Retry-After": format_datetime(at, usegmt=True)}
    tmdb.faults = {"/configuration": [tmdb.error(429, 25, "Slow down.", later)]}
    ask(tmdb_settings, "/configuration")
    _, (second, _) = tmdb.arrivals
    assert second + time.time() - time.monotonic() > at.timestamp() - 0.02


def test_rate_is_shared_by_all_tasks(tmdb, tmdb_settings):
    slow = tmdb_settings.model_copy(update={"requests_per_second": 25.0})
    began = time.monotonic()
    ask(slow, *["/configuration"] * 30)
    moments = sorted(moment - began for moment, _ in tmdb.arrivals)
    # A busy machine may send some later, and then several at once, but none before it is due.
    assert len(moments) == 30
    assert all(moment > number / 25 - 0.02 for number, moment in enumerate(moments))


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"status_code": 7, "status_message": "Invalid API key"}, ConfigError, "Invalid API key"),
        (404, {"status_code": 34, "status_message": "Not found here."}, NotFoundError, "Not found here"),
        (422, {"errors": ["page must be greater than 0"]}, DataError, "page must be greater than 0"),
        (422, {"status_code": 20, "status_message": "Invalid date range"}, DataError, "Invalid date range"),
        (400, {"status_code": 22, "status_message": "Invalid page"}, DataError, "Invalid page"),
    ],
)
def test_refusal_is_told_and_not_retried(tmdb, tmdb_settings, status, body, kind, words):
    tmdb.faults = {"/configuration": [JSONResponse(body, status)]}
    with pytest.raises(kind, match=words):
        ask(tmdb_settings, "/configuration")
    assert len(tmdb.arrivals) == 1


def test_lasting_silence_is_an_error_that_names_the_cause(tmdb, tmdb_settings):
    settings = tmdb_settings.model_copy(update={"attempts": 3})
    tmdb.faults = {"/configuration": [tmdb.error(500, 11, "Internal error")] * 9}
    with pytest.raises(SourceUnavailableError, match="500: Internal error"):
        ask(settings, "/configuration")
    assert len(tmdb.arrivals) == 3


def test_no_server_at_all_is_an_error_that_names_the_cause(tmdb_settings):
    settings = tmdb_settings.model_copy(update={"attempts": 2, "base_url": "http://127.0.0.1:9/3"})
    with pytest.raises(SourceUnavailableError, match="ConnectError"):
        ask(settings, "/configuration")


def test_wrong_types_go_to_quarantine_with_the_place(database, objects, tmdb, tmdb_settings, tables):
    tmdb.changed = {
        2: {"runtime": "long"},
        4: {"vote_average": 11.5},
        6: {"genres": "Drama"},
        8: {"title": " "},
    }
    report = ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    assert (report.inserted, report.quarantined, report.read) == (41, 4, 45)
    reasons = " | ".join(row["reason"] for row in tables(database)["quarantine"])
    for part in ("$.runtime", "vote_average 11.5 is outside 0–10", "$.genres", "title is missing"):
        assert part in reasons


def test_movie_that_stays_broken_does_not_stop_the_others(database, objects, tmdb, tmdb_settings):
    tmdb.faults = {"/movie/9": [tmdb.broken_json()] * 50}
    report = ingest_tmdb(database, objects, tmdb_settings.model_copy(update={"attempts": 2}), now=NOW)
    assert (report.inserted, report.quarantined) == (44, 1)


def test_deleted_movie_is_removed(database, objects, tmdb, tmdb_settings, tables):
    ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    tmdb.faults = {"/movie/9": [tmdb.error(404, 34, "The resource you requested could not be found.")]}
    ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    removed = [row["item_id"] for row in tables(database)["items"] if row["removed_at"] is not None]
    assert removed == [9]


def test_old_facts_are_renewed_though_no_longer_popular(database, objects, tmdb, tmdb_settings, tables):
    ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE items SET checked_at = '2025-12-01' WHERE item_id = 45")
    tmdb.changed = {45: {"popularity": 1.5}}
    few = tmdb_settings.model_copy(update={"movies": 5})
    ingest_tmdb(database, objects, few, now=NOW + timedelta(days=1))
    assert {"item_id": 45, "popularity": 1.5}.items() <= max(
        (row for row in tables(database)["item_facts"] if row["item_id"] == 45),
        key=lambda row: row["observed_at"],
    ).items()


def test_expired_facts_are_dropped(database, objects, tmdb, tmdb_settings, tables):
    ingest_tmdb(database, objects, tmdb_settings, now=NOW - timedelta(days=200))
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE items SET checked_at = '2025-10-01'")
    tmdb.faults = {"/movie/9": [tmdb.error(404, 34, "Gone.")]}
    ingest_tmdb(database, objects, tmdb_settings, now=NOW)
    content = tables(database)
    assert {row["observed_at"] for row in content["item_facts"]} == {datetime(2026, 5, 17, tzinfo=UTC)}
    gone = next(row for row in content["items"] if row["item_id"] == 9)
    assert gone["overview"] is gone["poster_path"] is None
    assert not [row for row in content["item_texts"] if row["item_id"] == 9]


def test_no_key_is_a_config_error(database, objects):
    with pytest.raises(ConfigError, match="MARQUEE_TMDB__BEARER_TOKEN"):
        ingest_tmdb(database, objects, TmdbSettings())


@pytest.mark.parametrize("way", ["bearer", "api_key"])
def test_key_never_shows(database, objects, tmdb, tmdb_settings, caplog, capfd, way):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # which `configure_logs` silences, in other tests too
    secret = tmdb.bearer if way == "bearer" else tmdb.api_key
    keys = {"bearer_token": None, "api_key": None, way.replace("bearer", "bearer_token"): SecretStr(secret)}
    settings = tmdb_settings.model_copy(update={**keys, "attempts": 3, "timeout_seconds": 1.0, "movies": 30})
    echo = {"overview": f"echo {secret}"}
    tmdb.changed = {3: echo, 4: {"runtime": f"wrong {secret}"}}
    tmdb.faults = {
        "/movie/5": [tmdb.error(500, 11, f"failed for {secret}")],
        "/movie/6": [None],
        "/movie/7": [tmdb.broken_json()] * 5,
    }
    ingest_tmdb(database, objects, settings, now=NOW)
    told = []
    for fault in (
        tmdb.error(401, 7, f"bad {secret}"),
        *[tmdb.error(500, 11, f"bad {secret}")] * 3,
        None,
        None,
        None,
    ):
        tmdb.faults.setdefault("/configuration", []).append(fault)
    for _ in range(3):
        with pytest.raises((ConfigError, SourceUnavailableError)) as caught:
            ask(settings, "/configuration")
        told += traceback.format_exception(caught.value)
        context = caught.value.__context__
        told += [repr(vars(context)), str(getattr(context, "request", ""))] if context else []
        request = getattr(context, "_request", None)
        told.append(str(request.url) if request is not None else "")
    stored = [path.read_text() for path in objects.root.rglob("*") if path.is_file()]
    with database.begin() as connection:
        rows = [
            str(connection.exec_driver_sql(f"SELECT * FROM {name}").all())
            for name in ("items", "item_texts", "quarantine")
        ]
    output = capfd.readouterr()
    records = [
        str(vars(record)) + record.getMessage()
        for record in caplog.records
        if not record.name.startswith("uvicorn")
    ]  # the server's own
    assert any("HTTP Request" in record for record in records), "httpx logs at this level"
    assert stored
    for text in [*told, *stored, *rows, *records, output.out, output.err]:
        assert secret not in text
