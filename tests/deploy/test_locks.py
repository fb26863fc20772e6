"""The lock files, and the script that resolves them."""

import re
import sys
from pathlib import Path

import pytest
from scripts import REPOSITORY, script

locks = script("locks")


def test_every_lock_of_the_repository_is_known_and_none_other() -> None:
    assert {path.name for path in REPOSITORY.glob("requirements*.lock")} == set(locks.LOCKS)


@pytest.mark.parametrize("name", locks.LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_a_hash(name: str) -> None:
    text = (REPOSITORY / name).read_text("utf-8")
    assert len(locks.pins(text)) == len(re.findall(r"^\w", text, re.MULTILINE)) > 0
    assert locks._unhashed(text) == []


@pytest.mark.slow
@pytest.mark.integration
def test_lock_that_lacks_a_package_or_has_one_too_many_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path(sys.executable).with_name("uv").exists():
        pytest.skip("uv is not beside this Python (make setup)")
    monkeypatch.setattr(locks, "REPOSITORY", tmp_path)
    lock = (REPOSITORY / "requirements-build.lock").read_text("utf-8")
    (tmp_path / "requirements-build.lock").write_text(lock)
    assert locks.differences("requirements-build.lock") == []
    changed = re.sub(r"^pluggy==.*?\n(?=\w)", "", lock, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "requirements-build.lock").write_text(f"{changed}extra==1.0\n")
    found = locks.differences("requirements-build.lock")
    assert found[0] == "requirements-build.lock: locked, not needed: extra==1.0"
    assert found[1].startswith("requirements-build.lock: needed, not locked: pluggy==")
    assert found[2:] == ["requirements-build.lock: without a hash: extra==1.0"]
