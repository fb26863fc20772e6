import hashlib
import json
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from free_ports import free_port

from marquee.config import ObjectSettings
from marquee.errors import ConfigError, DamagedObjectError, NotFoundError, StoreError, StoreUnavailableError
from marquee.store.objects import ObjectStore
from marquee.store.remote import PART_BYTES, RemoteStore

pytestmark = pytest.mark.integration

CONTENT = b'{"title": "Arrival"}'
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = f"raw/{DIGEST}.json"


def opened(**settings) -> RemoteStore:
    remote = RemoteStore.open(ObjectSettings(**settings))
    assert remote is not None
    return remote


@pytest.fixture(params=["s3", "directory"])
def remote(request, tmp_path: Path) -> RemoteStore:
    if request.param == "directory":
        return opened(url=f"file://{tmp_path}/second copy")
    return opened(**request.getfixturevalue("swift").settings())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, str]:
    """A file of three parts, and its digest."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 * PART_BYTES + 12_345))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_uploaded_comes_back(remote, file, tmp_path):
    assert remote.upload(KEY, file, DIGEST) is True
    assert remote.upload(KEY, file, DIGEST) is False
    assert remote.exists(KEY)
    assert remote.download(KEY, tmp_path / "a/b/back", DIGEST) == len(CONTENT)
    assert (tmp_path / "a/b/back").read_bytes() == CONTENT
    assert [(found.key, found.size) for found in remote.list()] == [(KEY, len(CONTENT))]
    assert list(remote.list("rawer")) == []


def test_large_object_travels_in_parts_and_its_pieces_are_told(remote, large, tmp_path):
    path, digest = large
    told: list[int] = []
    assert remote.upload(f"raw/{digest}", path, digest, told=told.append) is True
    assert sum(told) == path.stat().st_size
    assert len(told) == 3
    assert remote.upload(f"raw/{digest}", path, digest) is False
    assert remote.download(f"raw/{digest}", tmp_path / "back", digest, told=told.append) == sum(told) // 2
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_empty_object_comes_back(remote, tmp_path):
    (tmp_path / "empty").touch()
    digest = hashlib.sha256().hexdigest()
    assert remote.upload(f"raw/{digest}", tmp_path / "empty", digest) is True
    assert remote.download(f"raw/{digest}", tmp_path / "back", digest) == 0
    assert (tmp_path / "back").read_bytes() == b""
    assert remote.get_bytes(f"raw/{digest}", 10) == b""


def test_name_is_given_once(remote):
    remote.put_named("backups/one.json", b"{}")
    remote.put_named("backups/one.json", b"{}")
    with pytest.raises(StoreError, match=r"another object backups/one\.json"):
        remote.put_named("backups/one.json", b"[]")
    assert remote.get_bytes("backups/one.json", 2) == b"{}"
    with pytest.raises(StoreError, match="2 bytes; 1 are allowed"):
        remote.get_bytes("backups/one.json", 1)


def test_deleted_object_is_missing_by_name(remote, file, tmp_path):
    remote.upload(KEY, file, DIGEST)
    remote.delete(KEY)
    remote.delete(KEY)
    remote.delete()
    assert not remote.exists(KEY)
    for read in (lambda: remote.get_bytes(KEY, 1), lambda: remote.download(KEY, tmp_path / "back", None)):
        with pytest.raises(NotFoundError, match=DIGEST):
            read()
    assert not (tmp_path / "back").exists()


def test_file_that_is_not_what_its_key_says_is_not_uploaded(remote, large, file):
    path, _ = large
    for one in (file, path):
        with pytest.raises(DamagedObjectError, match="damaged here") as caught:
            remote.upload(f"raw/{'0' * 64}", one, "0" * 64)
        assert str(one) in caught.value.message
    assert list(remote.list()) == []


def test_what_the_listener_raises_stops_the_transfer_and_leaves_nothing(remote, large, tmp_path):
    path, digest = large

    def stop(_: int) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        remote.upload(f"raw/{digest}", path, digest, told=stop)
    assert list(remote.list()) == []
    remote.upload(f"raw/{digest}", path, digest)
    with pytest.raises(KeyError):
        remote.download(f"raw/{digest}", tmp_path / "to/back", digest, told=stop)
    assert list((tmp_path / "to").iterdir()) == []


def test_full_disk_is_named_and_leaves_nothing(remote, large, tmp_path):
    path, digest = large
    remote.upload(f"raw/{digest}", path, digest)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART_BYTES, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written to"):
            remote.download(f"raw/{digest}", tmp_path / "to/back", digest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"]"], ids=["truncated", "changed"])
def test_object_damaged_by_others_is_named_and_refused(swift, file, tmp_path, content):
    settings = swift.settings()
    remote = opened(**settings)
    remote.upload(KEY, file, DIGEST)
    bucket = settings["url"].split("/")[2]
    obstore.put(swift.store(bucket), f"some/prefix/{KEY}", content)
    with pytest.raises(DamagedObjectError, match="is damaged") as caught:
        remote.download(KEY, tmp_path / "to/back", DIGEST)
    assert KEY in caught.value.message
    assert list((tmp_path / "to").iterdir()) == []


def test_truncated_object_is_replaced_by_the_next_upload(swift, file, tmp_path):
    settings = swift.settings()
    remote = opened(**settings)
    obstore.put(swift.store(settings["url"].split("/")[2]), f"some/prefix/{KEY}", CONTENT[:5])
    assert remote.upload(KEY, file, DIGEST) is True
    assert remote.download(KEY, tmp_path / "back", DIGEST) == len(CONTENT)


def test_bit_that_flips_on_the_disk_of_the_service_is_noticed(make_swift, file, tmp_path):
    swift = make_swift()
    remote = opened(**swift.settings())
    remote.upload(KEY, file, DIGEST)
    (stored,) = (path for path in swift.folder.rglob("*.data") if path.read_bytes() == CONTENT)
    stored.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    with pytest.raises(DamagedObjectError, match=KEY):
        remote.download(KEY, tmp_path / "back", DIGEST)
    assert not (tmp_path / "back").exists()


def every_method(remote: RemoteStore, file: Path) -> list[Callable[[], object]]:
    return [
        lambda: remote.upload(KEY, file, DIGEST),
        lambda: remote.download(KEY, file.with_name("back"), DIGEST),
        lambda: remote.exists(KEY),
        lambda: list(remote.list()),
        lambda: remote.put_named("backups/one.json", b"{}"),
        lambda: remote.get_bytes(KEY, 100),
        lambda: remote.delete(KEY),
    ]


@pytest.mark.parametrize("line", ["aws_secret_access_key = wrong-key", "aws_access_key_id = wrong-key"])
def test_wrong_key_is_one_clear_error_and_nothing_is_written(swift, file, tmp_path, line):
    settings = swift.settings()
    wrong = tmp_path / "wrong"
    rest = [kept for kept in swift.credentials.read_text().splitlines() if kept.split()[0] != line.split()[0]]
    wrong.write_text("\n".join([*rest, line]))
    for method in every_method(opened(**settings | {"credentials_file": wrong}), file):
        with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
            method()
        assert not isinstance(caught.value, StoreUnavailableError)
        assert "key" in (caught.value.fix or "")
        assert "\n" not in str(caught.value)
        assert "wrong-key" not in str(caught.value)
    assert list(opened(**settings).list()) == []


def test_clock_that_is_wrong_is_said_so(make_swift, file):
    remote = opened(**make_swift(clock_offset=7200).settings("some-bucket"))
    for method in every_method(remote, file):
        with pytest.raises(StoreError, match="RequestTimeTooSkewed") as caught:
            method()
        assert "clock" in (caught.value.fix or "")


def test_missing_bucket_is_said_so(swift, file):
    remote = opened(**swift.settings("no-such-bucket"))
    for method in (lambda: remote.upload(KEY, file, DIGEST), lambda: list(remote.list())):
        with pytest.raises(StoreError, match="NoSuchBucket") as caught:
            method()
        assert "Make the bucket" in (caught.value.fix or "")


def test_encryption_that_the_service_lacks_is_refused_not_left_out(swift, file):
    settings = swift.settings()
    with pytest.raises(StoreError, match="encryption is not supported"):
        opened(**settings, encryption="AES256").upload(KEY, file, DIGEST)
    assert list(opened(**settings).list()) == []


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ({"encryption": "AES256"}, ["x-amz-server-side-encryption: AES256"]),
        (
            {"encryption": "aws:kms", "kms_key": "key-1"},
            ["x-amz-server-side-encryption: aws:kms", "x-amz-server-side-encryption-aws-kms-key-id: key-1"],
        ),
    ],
)
def test_encryption_is_asked_for_with_every_object(swift, file, large, wire, chosen, sent):
    """Swift has none to offer and says so; what was asked is seen on the wire."""
    between = wire(swift.port)
    remote = opened(**swift.settings() | {"endpoint": between.endpoint}, **chosen)
    path, digest = large
    for key, source, sha256 in ((KEY, file, DIGEST), (f"raw/{digest}", path, digest)):
        between.requests.clear()
        with pytest.raises(StoreError, match="not supported"):
            remote.upload(key, source, sha256)
        writing = [head for head in between.requests if head.startswith(("PUT ", "POST "))]
        assert writing
        assert all(line in head.splitlines() for head in writing for line in sent)


def test_virtual_host_has_the_bucket_in_the_name_of_the_host(swift, file, wire, monkeypatch, tmp_path):
    """By way of a proxy, since not every machine resolves names below `localhost`."""
    between = wire(swift.port)
    between.is_proxy = True
    settings = swift.settings()
    monkeypatch.setenv("http_proxy", between.endpoint)
    bucket = settings["url"].split("/")[2]
    remote = opened(**settings | {"endpoint": f"http://localhost:{swift.port}", "path_style": False})
    assert remote.upload(KEY, file, DIGEST) is True
    assert remote.download(KEY, tmp_path / "back", DIGEST) == len(CONTENT)
    assert [found.key for found in remote.list()] == [KEY]
    hosts = {line for head in between.requests for line in head.splitlines() if line.startswith("host: ")}
    assert hosts == {f"host: {bucket}.localhost:{swift.port}"}
    assert not any(bucket in head.splitlines()[0] for head in between.requests)


def test_service_that_is_away_is_unavailable(swift, file):
    settings = swift.settings("bucket") | {"endpoint": f"http://127.0.0.1:{free_port()}", "retries": 0}
    for method in every_method(opened(**settings), file):
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            method()


def test_service_that_does_not_answer_is_given_up_after_the_time_set(swift, file, wire):
    silent = wire(swift.port)
    silent.silent = True
    settings = swift.settings("bucket") | {
        "endpoint": silent.endpoint,
        "timeout_seconds": 0.2,
        "retries": 0,
    }
    for method in every_method(opened(**settings), file):
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            method()


def test_upload_cut_short_by_a_killed_server_is_repeated_and_leaves_no_torn_object(
    make_swift, wire, large, tmp_path
):
    swift = make_swift()
    between = wire(swift.port)
    settings = swift.settings()
    through = opened(**settings | {"endpoint": between.endpoint, "retries": 0})
    path, digest = large
    between.after = (PART_BYTES + PART_BYTES // 2, swift.kill)
    with pytest.raises(StoreUnavailableError):
        through.upload(f"raw/{digest}", path, digest)
    swift.start()
    remote = opened(**settings)
    assert list(remote.list()) == []
    assert remote.upload(f"raw/{digest}", path, digest) is True
    assert remote.download(f"raw/{digest}", tmp_path / "back", digest) == path.stat().st_size


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_size(swift, tmp_path):
    path = tmp_path / "huge"
    size = 128 << 20
    with path.open("wb") as file:
        file.truncate(size)
    settings = ObjectSettings(**swift.settings()).model_dump(mode="json")
    program = f"""
        import hashlib, json, resource, sys
        from pathlib import Path
        from marquee.config import ObjectSettings
        from marquee.store.remote import RemoteStore

        path = Path({str(path)!r})
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        remote = RemoteStore.open(ObjectSettings(**json.loads(sys.argv[1])))
        remote.list()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert remote.upload(f"raw/{{digest}}", path, digest)
        assert remote.download(f"raw/{{digest}}", path.with_name("back"), digest) == {size}
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), json.dumps(settings)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) * 1024 < size / 2


def test_keys_come_from_the_environment_and_from_the_usual_file(swift, monkeypatch, file):
    settings = swift.settings()
    del settings["credentials_file"]
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(swift.credentials))
    assert opened(**settings).upload(KEY, file, DIGEST) is True
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test:tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing123")
    assert opened(**settings).upload(KEY, file, DIGEST) is False


def test_key_that_was_replaced_in_the_file_is_read_again(swift, tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.store.s3.READ_AGAIN", timedelta(0))
    keys = tmp_path / "keys"
    keys.write_text(swift.credentials.read_text().replace("testing123", "old"))
    remote = opened(**swift.settings() | {"credentials_file": keys})
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
        remote.exists(KEY)
    keys.write_text(swift.credentials.read_text())
    assert not remote.exists(KEY)


@pytest.mark.parametrize("content", [None, "", "[default]\nsecret-line", "[other]\naws_access_key_id = a"])
def test_credentials_file_that_cannot_be_used_is_named_without_its_content(tmp_path, content):
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        opened(url="s3://bucket", credentials_file=path)
    assert "secret-line" not in str(caught.value)


@pytest.mark.parametrize("url", ["bucket", "http://bucket", "s3://", "s3://bucket/a b", "file://x"])
def test_url_of_another_kind_is_refused(url):
    with pytest.raises(ValueError, match="url"):
        ObjectSettings(url=url)


def test_directory_that_cannot_be_made_is_named(file):
    with pytest.raises(ConfigError, match="cannot be made"):
        opened(url=f"file://{file}/below")


def test_no_url_is_no_archive():
    assert RemoteStore.open(ObjectSettings()) is None


@pytest.fixture
def elsewhere(remote, tmp_path) -> ObjectStore:
    """An empty home whose archive has one object."""
    here = ObjectStore(tmp_path / "here")
    assert here.put("raw", CONTENT, ".json").key == KEY
    remote.upload(KEY, here.root / KEY, DIGEST)
    return ObjectStore(tmp_path / "elsewhere", remote)


def test_empty_home_finds_its_objects_in_the_archive(elsewhere):
    assert elsewhere.get(KEY) == CONTENT
    for read in (elsewhere.local_path, lambda key: elsewhere.local_path(key, verify=False)):
        (elsewhere.root / KEY).unlink()
        assert read(KEY).read_bytes() == CONTENT
    (elsewhere.root / KEY).unlink()
    with elsewhere.open(KEY) as opened_object:
        assert opened_object.read() == CONTENT
    elsewhere.remote.delete(KEY)
    assert elsewhere.get(KEY) == CONTENT  # kept here


def test_object_that_is_nowhere_is_not_found_and_leaves_no_folder(elsewhere):
    missing = f"snapshots/deep/{'0' * 64}"
    with pytest.raises(NotFoundError, match="0000"):
        elsewhere.get(missing)
    assert list(elsewhere.root.iterdir()) == []


def test_home_works_on_while_the_archive_is_away(make_swift, tmp_path):
    swift = make_swift()
    store = ObjectStore(tmp_path / "home", opened(**swift.settings() | {"retries": 0}))
    ref = store.put("raw", CONTENT)
    swift.kill()
    assert store.get(ref.key) == CONTENT
    with pytest.raises(StoreUnavailableError):
        store.get(f"raw/{'0' * 64}")
    swift.start()


def test_request_that_is_cut_off_is_repeated_until_the_service_is_back(make_swift, wire, file, tmp_path):
    swift = make_swift()
    between = wire(swift.port)
    through = opened(**swift.settings() | {"endpoint": between.endpoint, "retries": 20})
    through.upload(KEY, file, DIGEST)

    def restart() -> None:
        swift.kill()
        swift.start()

    between.requests.clear()
    between.after = (1, restart)
    assert through.download(KEY, tmp_path / "back", DIGEST) == len(CONTENT)
    heads = [head.splitlines()[0] for head in between.requests if head.startswith("HEAD ")]
    assert len(heads) >= 2
    assert len(set(heads)) == 1
