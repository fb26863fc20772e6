"""What `apply` is given, and what it makes of it: nothing is changed here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts run Linux")

REPOSITORY = Path(__file__).parents[2]
ADDRESSES = {"workhorse": "10.77.0.11", "controltower": "10.77.0.12", "nervous": "10.77.0.13"}
VARIABLES = {f"MARQUEE_{role.upper()}": address for role, address in ADDRESSES.items()}
OPTIONS = (
    *("--role", "workhorse", "--admins", "10.77.1.0/24", "fd77::100/120"),
    *("--peers", *(f"{role}={address}" for role, address in ADDRESSES.items())),
)


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """What `apply` needs of deploy/, without this checkout's settings."""
    folder = tmp_path / "deploy"
    (folder / "compose").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "deploy/hardening", folder / "hardening")
    shutil.copy(REPOSITORY / "deploy/hosts.json", folder)
    return folder


def plan(deploy: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What --dry-run says."""
    return subprocess.run(
        [deploy / "hardening/apply", *options, "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **variables},
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--role", "mainframe"), "'mainframe' is no role. Give --role with one of: workhorse,"),
        ((), "'' is no role."),
        (("--role", "workhorse", "--admins", "10.0.0.0/24"), "Give --peers controltower=ADDRESS"),
        (("--role", "all-in-one", "--admins", "10.0.0.1/24"), "10.0.0.1/24 has host bits set"),
        (("--role", "nervous", "--peers", "10.0.0.1"), "'10.0.0.1' names no host."),
        (("--role", "all-in-one", "--only", "everything"), "'everything' is no step."),
        (("--role", "all-in-one", "--hour", "24"), "'24' is no hour."),
    ],
)
def test_what_is_given_wrongly_is_named(deploy: Path, given: tuple[str, ...], why: str) -> None:
    done = plan(deploy, *given)
    assert done.returncode == 1
    assert why in done.stderr


def test_environment_stands_in_for_options(deploy: Path) -> None:
    variables = {"MARQUEE_ROLE": "workhorse", "MARQUEE_ADMINS": "10.77.1.0/24,fd77::100/120", **VARIABLES}
    by_options = plan(deploy, *OPTIONS)
    assert "rule  allow from 10.77.0.12 to any port 8000" in by_options.stdout
    assert plan(deploy, **variables).stdout == by_options.stdout


def test_peers_that_nobody_names_are_those_of_the_settings(deploy: Path) -> None:
    lines = [f"{name}={address}" for name, address in VARIABLES.items()]
    # As Compose reads it: comments and quotes are not of the value, and of two lines the last holds.
    lines[1:2] = ["# MARQUEE_CONTROLTOWER=10.9.9.9", "MARQUEE_CONTROLTOWER=10.9.9.9",
                  "MARQUEE_CONTROLTOWER='10.77.0.12' # the proxy"]  # fmt: skip
    (deploy / "compose/.env").write_text("\n".join([*lines, ""]))
    by_options = plan(deploy, *OPTIONS)
    admins = OPTIONS[: OPTIONS.index("--peers")]
    assert by_options.returncode == 0
    assert plan(deploy, *admins).stdout == by_options.stdout
    elsewhere = plan(deploy, *admins, MARQUEE_NERVOUS="10.77.0.99").stdout
    assert "allow from 10.77.0.99 to any port 9100" in elsewhere
    assert "10.77.0.13" not in elsewhere


def test_documented_table_is_the_one_that_is_applied() -> None:
    table: dict[str, list[dict[str, Any]]] = json.loads((REPOSITORY / "deploy/hosts.json").read_text())
    page = (REPOSITORY / "docs/hosts.md").read_text()
    documented = {
        (host, int(port), what, frozenset(sources.split(", ")))
        for host, port, what, sources in re.findall(r"^\| (\S+) \| (\d+) \| (.+?) \| (.+?) \|$", page, re.M)
    }
    applied = {
        (host, row["port"], row["what"], frozenset("itself" if one == host else one for one in row["from"]))
        for host, rows in table.items()
        for row in rows
    }
    assert documented == applied
