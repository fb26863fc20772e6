import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def marquee(database_url: str, tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "marquee.cli", "keys", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "MARQUEE_HOME": str(tmp_path), "MARQUEE_DATABASE__URL": database_url},
            timeout=120,
            check=False,
        )

    return run


def test_key_is_shown_once_listed_without_it_and_revoked(marquee):
    """Standard output is the key alone, so that a script may keep it."""
    made = marquee("create", "the site", "--role", "service")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    key_id = key.split("_")[1]
    assert key.startswith("mq_")
    assert "the site" in made.stderr
    assert key not in made.stderr
    listed = marquee("list", "--json").stdout
    assert key.split("_", 2)[2] not in listed
    (row,) = json.loads(listed)
    assert (row["key_id"], row["name"], row["role"]) == (key_id, "the site", "service")
    assert key_id in marquee("list").stdout
    assert json.loads(marquee("revoke", key_id, "--json").stdout)["revoked_at"]
    unknown = marquee("revoke", "nobody")
    assert unknown.returncode == 1
    assert "marquee keys list" in unknown.stderr


def test_json_carries_the_key(marquee):
    made = json.loads(marquee("create", "me", "--role", "operator", "--json").stdout)
    assert made["key"].startswith(f"mq_{made['key_id']}_")


def test_role_must_be_one_of_three(marquee):
    assert marquee("create", "me", "--role", "root").returncode == 2
