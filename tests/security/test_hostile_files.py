"""Files that were made to do harm: packed ones that grow, archives that lead elsewhere, tables that lie."""

import gzip
import hashlib
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marquee.errors import DamagedObjectError, SchemaError
from marquee.ingest import movielens, readers
from marquee.ingest.readers import read_table
from marquee.ingest.validate import check_interactions, check_items
from marquee.store.backups.manifest import Backup
from marquee.store.objects import ObjectStore

MIB = 1 << 20
RATINGS = "userId,movieId,rating,timestamp\n1,2,3.5,964982703\n"


def rows_of(path: Path) -> int:
    return sum(len(chunk.frame) for chunk in read_table(path, {}))


def packed(parts: Iterable[bytes]) -> bytes:
    """The content in gzip, made without ever holding it."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return out.getvalue()


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.csv.gz", "log.tsv.gz", "log.ndjson.gz"])
def test_line_that_unpacks_without_end_is_refused_before_it_fills_the_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(packed(b"a" * MIB for _ in range(200)))
    assert path.stat().st_size < 2 * MIB

    def read() -> None:
        with pytest.raises(SchemaError, match="8 MiB") as caught:
            rows_of(path)
        assert caught.value.fix

    assert peak_of(read) < 60 * MIB


def test_long_lines_come_in_smaller_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 4 * MIB)
    path = tmp_path / "log.jsonl.gz"
    line = json.dumps({"a": "x" * MIB}).encode() + b"\n"
    path.write_bytes(packed(line for _ in range(40)))
    sizes = [len(chunk.frame) for chunk in read_table(path, {})]
    assert sum(sizes) == 40
    assert max(sizes) <= 5


def test_row_of_csv_that_is_longer_than_a_block_is_refused(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(packed([b"a,b\n", *(b'"' + b"a" * MIB for _ in range(20))]))
    with pytest.raises(SchemaError, match="cannot be read"):
        rows_of(path)


def altered(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("how", ["no gzip", "cut short", "altered", "wrong sum"])
def test_packed_file_that_is_damaged_is_named(tmp_path, kind, how):
    content = b"a,b\n" + b"1,2\n" * 5000 if kind == "csv" else b'{"a":1}\n' * 5000
    good = gzip.compress(content)
    made = {"no gzip": b"\x1f\x8bno", "cut short": good[:-12], "altered": altered(good, 14),
            "wrong sum": altered(good, -6)}[how]  # fmt: skip
    path = tmp_path / f"log.{kind}.gz"
    path.write_bytes(made)
    with pytest.raises(SchemaError, match=rf"log\.{kind}\.gz cannot be read") as caught:
        rows_of(path)
    assert caught.value.fix


def zipped(path: Path, *members: tuple[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name", ["../../ratings.csv", "/ratings.csv", "a/../../ratings.csv", "C:/ratings.csv"]
)
def test_members_of_a_zip_are_read_and_never_written_wherever_they_lead(tmp_path, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = zipped(folder / "ml.zip", (name, RATINGS))
    before = sorted(tmp_path.rglob("*"))
    files = movielens._files(path)
    assert [len(chunk.frame) for chunk in movielens._ratings(files["ratings.csv"])] == [1]
    assert sorted(tmp_path.rglob("*")) == before


def test_link_in_a_zip_is_a_text_and_leads_nowhere(tmp_path):
    (tmp_path / "secret").write_text(RATINGS * 2)
    info = zipfile.ZipInfo("ratings.csv")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr(info, str(tmp_path / "secret"))
    with pytest.raises(SchemaError, match=r"ratings\.csv cannot be read"):
        list(movielens._ratings(movielens._files(tmp_path / "ml.zip")["ratings.csv"]))


def test_zip_that_is_damaged_or_locked_is_named(tmp_path):
    content = zipped(tmp_path / "good.zip", ("ratings.csv", RATINGS * 100)).read_bytes()
    directory = content.rindex(b"PK\x01\x02")
    unknown, locked = bytearray(content), bytearray(content)
    unknown[8] = unknown[directory + 10] = 99  # a method that nobody has
    locked[6] |= 1
    locked[directory + 8] |= 1
    for name, made in (
        ("altered", altered(content, 60)),
        ("unknown", bytes(unknown)),
        ("locked", bytes(locked)),
        ("directory", altered(content, directory)),
    ):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(made)
        with pytest.raises(SchemaError, match=r"cannot be|neither a folder nor a zip") as caught:
            list(movielens._ratings(movielens._files(path)["ratings.csv"]))
        assert caught.value.fix


@pytest.mark.parametrize("name", ["u.item", "movies.dat"])
def test_list_of_films_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(movielens, "MAX_MOVIE_LIST_BYTES", MIB)
    path = zipped(tmp_path / "ml.zip", (name, b"\0" * 20 * MIB))
    with pytest.raises(SchemaError, match="1 MiB"):
        movielens.read_movies(movielens._files(path)[name])


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        lambda content: content[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1",
        lambda content: content[:-8] + bytes(4) + b"PAR1",
        lambda content: content[: len(content) // 2],
        lambda content: content[:4] + bytes(len(content) - 8) + content[-4:],
        lambda content: b"PAR1" * 3,
        lambda _: b"",
    ],
    ids=range(7),
)
def test_parquet_that_lies_about_itself_is_refused(tmp_path, change):
    content = parquet(pa.table({"user_id": range(1000), "event": ["play"] * 1000}))
    path = tmp_path / "log.parquet"
    path.write_bytes(change(content))
    with pytest.raises(SchemaError, match=r"log\.parquet cannot be read") as caught:
        rows_of(path)
    assert caught.value.fix


def test_any_bytes_of_a_parquet_file_may_be_wrong_and_the_error_is_ours(tmp_path):
    content = parquet(pa.table({"user_id": range(200), "event": ["play"] * 200}))
    path = tmp_path / "log.parquet"
    for at in range(4, len(content) - 4, 37):
        path.write_bytes(altered(content, at))
        try:
            rows_of(path)
        except SchemaError:
            continue


def test_deep_and_boundless_json_lines_are_told_and_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [b"[" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b'{"a": NaN}', b'{"a": 1e999}',
             b'{"a": "\\ud800"}', b"\xff\xfe{}", b'{"a": 1}']  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    (chunk,) = read_table(path, {})
    assert chunk.frame["a"].to_list() == ["1"]
    assert len(chunk.malformed) == len(lines) - 1


def test_values_that_no_table_can_hold_are_quarantined():
    hostile = {
        "user_id": ["1", "-1", str(2**63), str(2**70), "NaN", "1e400", "١", "1; DROP TABLE users", "1"],
        "item_id": ["1", "1", "1", "1", "1", "1", "1", "1", "0x10"],
    }
    n = len(hostile["user_id"])
    log = pl.DataFrame({**hostile, "event": ["watch"] * n, "occurred_at": ["2026-01-01T00:00:00Z"] * n})
    checked = check_interactions(log)
    assert len(checked.good) + len(checked.rejected) == n
    assert set(checked.good["user_id"]) == {1}
    films = pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["good", "with \x00 in it", None],
                          "popularity": ["inf", "nan", "1"]})  # fmt: skip
    checked = check_items(films)
    assert "\x00" not in "".join(title or "" for title in checked.good["title"])


def backup(**changes: object) -> bytes:
    piece = {"key": f"backups/objects/{'0' * 64}.parquet", "rows": 1, "size": 1}
    table = {"columns": {"user_id": "bigint"}, "pieces": [piece], "sequence": None}
    content = {
        "format": 1, "created_at": "2026-11-22T12:00:00+00:00", "revision": "0005", "code_version": "0.2.0",
        "in_flight": 1, "tables": {"users": table}, "objects": [], "missing": [],
    }  # fmt: skip
    return json.dumps({**content, **changes}).encode()


def key_of(content: bytes) -> str:
    return f"backups/20261122T120000.000000Z-{hashlib.sha256(content).hexdigest()[:12]}.json"


def with_piece(key: str) -> bytes:
    piece = {"key": key, "rows": 1, "size": 1}
    return backup(tables={"users": {"columns": {}, "pieces": [piece], "sequence": None}})


@pytest.mark.parametrize(
    "content",
    [
        backup(tables={"users; DROP TABLE api_keys; --": {"columns": {}, "pieces": [], "sequence": None}}),
        backup(tables={'users"': {"columns": {}, "pieces": [], "sequence": None}}),
        backup(tables={"users": {"columns": {}, "pieces": [{"what": 1}], "sequence": None}}),
        backup(tables=[]),
        backup(more=1),
        backup(created_at="today"),
        with_piece(f"../../{'0' * 64}"),
        with_piece(f"/etc/{'0' * 64}"),
        with_piece("backups/objects/passwd"),
        b"[" * 100_000,
        b"[]",
    ],
    ids=range(11),
)
def test_manifest_of_a_backup_that_holds_statements_or_paths_is_refused(content):
    """Its digest fits: whoever can write to the archive can compute it, too."""
    assert Backup.decode(key_of(backup()), backup()).rows == 1
    with pytest.raises(DamagedObjectError, match="not one of ours") as caught:
        Backup.decode(key_of(content), content)
    assert caught.value.fix


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a/.b",
        "a\\..\\b",
        "a/\x00",
        "a/é",
        "a/%2e%2e/b",
        "~/x",
        "a/b\n",
    ],
)
def test_key_that_leads_out_of_the_object_directory_is_none(tmp_path, key):
    store = ObjectStore(tmp_path / "objects")
    for work in (store.get, store.local_path, store.open, lambda k: store.put(k, b""), store.list):
        with pytest.raises(ValueError, match="not an object key"):
            work(key)
