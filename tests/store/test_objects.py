import hashlib
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from marquee.errors import NotFoundError, StoreError
from marquee.store.objects import ObjectStore

CONTENT = b'{"title": "Arrival"}'
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def test_key_carries_the_digest_under_the_callers_layout(store):
    ref = store.put("raw/tmdb/2026/11/22", CONTENT, ".json")
    assert ref.key == f"raw/tmdb/2026/11/22/{DIGEST}.json"
    assert (ref.sha256, ref.size) == (DIGEST, len(CONTENT))
    assert store.get(ref.key) == CONTENT


def test_file_is_stored_like_bytes(store, tmp_path):
    file = tmp_path / "page"
    file.write_bytes(CONTENT)
    assert store.put("raw", file, ".json") == store.put("raw", CONTENT, ".json")


@pytest.mark.parametrize("as_file", [False, True])
def test_empty_content_is_an_object(store, tmp_path, as_file):
    empty = tmp_path / "empty"
    empty.touch()
    ref = store.put("raw", empty if as_file else b"")
    assert ref.size == 0
    assert store.get(ref.key) == b""


def test_equal_object_already_there_is_success_and_untouched(store):
    ref = store.put("raw", CONTENT)
    before = store.local_path(ref.key).stat()
    assert store.put("raw", CONTENT) == ref
    after = store.local_path(ref.key).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_damaged_object_is_refused_and_mended_by_writing_it_again(store):
    ref = store.put("raw", CONTENT)
    (store.root / ref.key).write_bytes(b"{")
    for read in (store.get, store.local_path, store.open):
        with pytest.raises(StoreError, match="damaged") as caught:
            read(ref.key)
        assert ref.key in caught.value.message
        assert caught.value.fix
    assert store.put("raw", CONTENT) == ref
    assert store.get(ref.key) == CONTENT


def test_open_and_local_path_give_the_content(store):
    ref = store.put("raw", CONTENT)
    with store.open(ref.key) as file:
        assert file.read() == CONTENT
    assert store.local_path(ref.key).read_bytes() == CONTENT


def test_missing_object_is_not_found(store):
    for read in (store.get, store.local_path, store.open):
        with pytest.raises(NotFoundError, match=DIGEST):
            read(f"raw/{DIGEST}")


@pytest.mark.parametrize(
    "prefix", ["", "/etc", "../out", "a/../../out", "a//b", "a/.", ".hidden", "a/", "a b", "a\0b", "ä", "a#1"]
)
def test_keys_that_leave_the_layout_are_refused(store, prefix):
    with pytest.raises(ValueError, match="object key"):
        store.put(prefix, CONTENT)
    with pytest.raises(ValueError, match="object key"):
        store.get(f"{prefix}/{DIGEST}")
    assert not any(store.root.iterdir())


@pytest.mark.parametrize("suffix", ["/../../x", "#1", "json", ".a/b"])
def test_suffixes_that_leave_the_layout_are_refused(store, suffix):
    with pytest.raises(ValueError, match="object key"):
        store.put("raw", CONTENT, suffix)


def test_key_without_a_digest_is_refused(store):
    with pytest.raises(ValueError, match="SHA-256"):
        store.get("raw/page.json")


def test_list_is_sorted_and_bound_to_whole_segments(store):
    keys = [store.put(prefix, bytes([n])).key for n in range(5) for prefix in ("raw/a", "raw/b", "raw/ab")]
    assert [ref.key for ref in store.list()] == sorted(keys)
    assert [ref.key for ref in store.list("raw/a")] == sorted(k for k in keys if k.startswith("raw/a/"))
    assert store.list("nothing") == []
    assert store.list("raw/b")[0].size == 1


def test_unwritable_directory_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as caught:
        ObjectStore(tmp_path / "file" / "objects")
    assert "MARQUEE_HOME" in caught.value.fix


def test_leftovers_of_killed_writers_are_swept_before_the_first_write(store):
    ref = store.put("raw/a", CONTENT)
    left = store.root / f"{ref.key}#1"
    left.write_bytes(b"half")
    again = ObjectStore(store.root)
    assert [found.key for found in again.list()] == [ref.key]
    assert left.exists()
    again.put("raw/a", CONTENT)
    assert not left.exists()
    assert store.get(ref.key) == CONTENT


def test_sweep_leaves_a_living_writer_alone(store):
    left = store.root / "raw#1"
    with store.writing():
        left.touch()
        ObjectStore(store.root).put("raw/a", CONTENT)
        assert left.exists()
    ObjectStore(store.root).put("raw/a", CONTENT)
    assert not left.exists()


def test_racing_writers_of_one_object_all_succeed(store):
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from marquee.store.objects import ObjectStore
        store = ObjectStore(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        print(store.put("raw", b"x" * 1_000_000).key)
        """
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    keys = {writer.communicate(timeout=60)[0].strip() for writer in writers}
    assert len(keys) == 1
    assert store.get(keys.pop()) == b"x" * 1_000_000


def test_killed_writer_leaves_whole_objects_or_none(store):
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from marquee.store.objects import ObjectStore
        store = ObjectStore(Path(sys.argv[1]))
        for n in range(100_000):
            store.put("raw", str(n).encode() * 300_000)
            print(n, flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    again = ObjectStore(store.root)
    refs = again.list("raw")
    assert len(refs) >= 5
    for ref in refs:
        again.get(ref.key)
    again.put("raw", b"next")  # the first write removes what was left
    assert not list(store.root.rglob("*#*"))
