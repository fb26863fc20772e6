"""Own logs and own catalogues in three kinds of files."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from marquee.errors import SchemaError
from marquee.ingest import ingest_interactions, ingest_items

LOG = [
    {
        "user_id": 1,
        "item_id": 10,
        "event": "watch",
        "watch_seconds": 1200.5,
        "occurred_at": "2024-05-01T20:00:00Z",
    },
    {"user_id": 1, "item_id": 10, "event": "rate", "rating": 8.5, "occurred_at": "2024-05-01T22:00:00+02:00"},
    {"user_id": 2, "item_id": 11, "event": "like", "occurred_at": "1714593600", "event_key": "k1"},
    {
        "user_id": 2,
        "item_id": 11,
        "event": "undo",
        "occurred_at": "1714593601",
        "event_key": "k2",
        "revokes": "k1",
    },
    {"user_id": "anna", "item_id": 10, "event": "watch", "occurred_at": "2024-05-01"},
    {"user_id": 3, "item_id": 10, "event": "rate", "rating": 11, "occurred_at": "2024-05-01"},
    {"user_id": 3, "item_id": 10, "event": "watch", "watch_seconds": -4, "occurred_at": "2024-05-01"},
    {"user_id": 3, "item_id": 10, "event": "watch", "occurred_at": "2999-05-01"},
]
CATALOGUE = [
    {
        "item_id": 10,
        "title": 'A "quoted"\ntitle',
        "genres": ["Drama", "War"],
        "runtime": 90,
        "vote_average": 7.5,
    },
    {"item_id": 11, "title": "B", "release_date": "2001-02-03", "language": "en", "overview": "Words."},
    {"item_id": "b2", "title": "C"},
    {"item_id": 12, "title": ""},
]


def write(rows: list[dict[str, object]], path: Path) -> Path:
    """Rows as the kind of file that the name says."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = {
        name: [
            "|".join(v) if isinstance(v := row.get(name), list) else None if v is None else str(v)
            for row in rows
        ]
        for name in names
    }
    frame = pl.DataFrame(text, schema=dict.fromkeys(names, pl.String))
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


@pytest.fixture(params=["csv", "jsonl", "jsonl.gz", "parquet"])
def kind(request) -> str:
    """Ending of a file's name."""
    return request.param


def test_log_is_loaded_and_bad_rows_are_told(database, objects, tmp_path, tables, kind):
    report = ingest_interactions(database, objects, write(LOG, tmp_path / f"log.{kind}"))
    content = tables(database)
    assert (report.read, report.inserted, report.quarantined) == (8, 4, 4)
    assert len(content["interactions"]) == 4
    reasons = sorted(row["reason"] for row in content["quarantine"])
    assert [reason.partition(" ")[0] for reason in reasons] == [
        "occurred_at",
        "rating",
        "user_id",
        "watch_seconds",
    ]
    assert "user_id anna is not a 64-bit integer" in reasons
    assert content["quarantine"][0]["content"]["user_id"] in {"anna", "3"}
    assert objects.get(report.raw_keys[0]) == tmp_path.joinpath(f"log.{kind}").read_bytes()


def test_same_log_twice_adds_nothing(database, objects, tmp_path, tables, kind):
    path = write(LOG, tmp_path / f"log.{kind}")
    ingest_interactions(database, objects, path)
    before = tables(database)
    report = ingest_interactions(database, objects, path)
    assert (report.inserted, report.duplicates, report.quarantined) == (0, 4, 4)
    assert tables(database) == before


def test_derived_keys_are_those_of_any_kind_of_file(database, objects, tmp_path):
    reports = [
        ingest_interactions(database, objects, write(LOG, tmp_path / f"log.{kind}"))
        for kind in ("csv", "jsonl", "parquet")
    ]
    assert [report.inserted for report in reports] == [4, 0, 0]


def test_typed_parquet_means_what_its_text_means(database, objects, tmp_path):
    path = tmp_path / "typed.parquet"
    frame = pl.DataFrame({"user_id": [1], "item_id": [10], "event": ["watch"], "watch_seconds": [1200.5],
                          "occurred_at": pl.Series([1714593600], dtype=pl.Int32)})  # fmt: skip
    frame.write_parquet(path)
    ingest_interactions(database, objects, write(LOG[:1], tmp_path / "log.csv"))
    assert ingest_interactions(database, objects, path).duplicates == 1


def test_catalogue_needs_no_tmdb(database, objects, tmp_path, tables, kind):
    report = ingest_items(database, objects, write(CATALOGUE, tmp_path / f"films.{kind}"))
    content = tables(database)
    assert (report.read, report.inserted, report.quarantined) == (4, 2, 2)
    first, second = content["items"]
    assert first["title"] == 'A "quoted"\ntitle'
    assert first["genres"] == ["Drama", "War"]
    assert first["runtime_minutes"] == 90
    assert [row["vote_average"] for row in content["item_facts"]] == [7.5]
    assert [(row["item_id"], row["language"], row["overview"]) for row in content["item_texts"]] == [
        (second["item_id"], "en", "Words.")
    ]


def test_changed_catalogue_updates(database, objects, tmp_path, tables):
    ingest_items(database, objects, write(CATALOGUE, tmp_path / "films.csv"))
    changed = [CATALOGUE[0], CATALOGUE[1] | {"title": "New"}]
    report = ingest_items(database, objects, write(changed, tmp_path / "films.jsonl"))
    assert (report.inserted, report.updated, report.duplicates) == (0, 1, 1)
    assert tables(database)["items"][1]["title"] == "New"


def test_broken_lines_are_quarantined(database, objects, tmp_path, tables):
    lines = tmp_path / "log.jsonl"
    lines.write_text('{"user_id": 1, "item_id": 2, "occurred_at": 5}\n{"user_id": 1, "it\n[1]\n\n')
    rows = tmp_path / "log.csv"
    rows.write_text("user_id,item_id,occurred_at\n1,2,6\n1,2\n1,2,7,8\n")
    assert ingest_interactions(database, objects, lines).quarantined == 2
    assert ingest_interactions(database, objects, rows).quarantined == 2
    assert len(tables(database)["quarantine"]) == 4


def test_aliases_are_read(database, objects, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("\ufeffuserId,movieId,timestamp\n1,2,5\n", encoding="utf-8")
    assert ingest_interactions(database, objects, path).inserted == 1


def test_empty_table_loads_nothing(database, objects, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,occurred_at\n")
    assert ingest_interactions(database, objects, path).read == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("log.xlsx", b"x", "unknown kind"),
        ("log.csv", b"", "is empty"),
        ("log.csv", b"user_id,item_id,occurred_at\n1,2,\xff\xfe\n", "cannot be read"),
        ("log.csv", b"user,item\n1,2\n", "lacks the columns user_id, item_id, occurred_at"),
        ("log.csv", b"user_id,user_id\n1,2\n", "more than one column for user_id"),
        ("log.parquet", b"PAR1 not", "cannot be read"),
    ],
)
def test_unusable_file_is_refused(database, objects, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=words):
        ingest_interactions(database, objects, path)


def test_missing_file_is_refused(database, objects, tmp_path):
    with pytest.raises(SchemaError, match="There is no file"):
        ingest_items(database, objects, tmp_path / "films.csv")
