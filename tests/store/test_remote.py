import hashlib
import os
from pathlib import Path

import pytest

from marquee.config import ObjectSettings
from marquee.errors import DamagedObjectError, NotFoundError, StoreError
from marquee.store.objects import ObjectStore
from marquee.store.remote import PART_BYTES, RemoteStore

pytestmark = pytest.mark.integration

CONTENT = b'{"title": "Arrival"}'
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = f"raw/{DIGEST}.json"


@pytest.fixture
def remote(swift) -> RemoteStore:
    opened = RemoteStore.open(ObjectSettings(**swift.settings()))
    assert opened is not None
    return opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def test_what_was_uploaded_comes_back(remote, file, tmp_path):
    assert remote.upload(KEY, file, DIGEST) is True
    assert remote.upload(KEY, file, DIGEST) is False
    assert remote.exists(KEY)
    assert remote.download(KEY, tmp_path / "a/b/back", DIGEST) == len(CONTENT)
    assert (tmp_path / "a/b/back").read_bytes() == CONTENT
    assert [(found.key, found.size) for found in remote.list()] == [(KEY, len(CONTENT))]


def test_large_object_travels_in_parts(remote, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(2 * PART_BYTES + 12_345))
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert remote.upload(f"raw/{digest}", large, digest) is True
    assert remote.upload(f"raw/{digest}", large, digest) is False
    assert remote.download(f"raw/{digest}", tmp_path / "back", digest) == large.stat().st_size
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
