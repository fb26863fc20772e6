"""`deploy/bin/init` as it is run on a fresh host, twice and with mistakes; and what its passwords open."""

import base64
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts run Linux")

REPOSITORY = Path(__file__).parents[2]
INIT = REPOSITORY / "deploy" / "bin" / "init"
EXAMPLE = REPOSITORY / "deploy" / "compose" / ".env.example"
OF_ROLE = {
    "workhorse": {"postgres-password", "operator-key", "s3-credentials", "tmdb-token"},
    "controltower": {
        "operator-key",
        "airflow-postgres-password",
        "airflow-database-url",
        "airflow-session-key",
        "airflow-jwt-key",
        "airflow-fernet-key",
        "proxy-password",
        "proxy-users",
    },
    "nervous": {"grafana-password", "slack-errors-url", "slack-warnings-url", "smtp-password"},
}
TO_FILL = {"tmdb-token", "slack-errors-url", "slack-warnings-url", "smtp-password"}
THREE = ("--workhorse", "10.0.0.11", "--controltower", "10.0.0.12", "--nervous", "10.0.0.13")


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(INIT), "--folder", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )


def variables(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after one run for everything on one host."""
    folder = tmp_path_factory.mktemp("host") / "compose"
    done = init(folder, "--site", "films.example.org")
    assert done.returncode == 0, done.stderr
    return folder


def test_secrets_are_those_of_all_roles_and_none_is_guessable(host: Path) -> None:
    found = contents(host)
    assert set(found) == set.union(*OF_ROLE.values())
    assert {name for name, text in found.items() if not text} == TO_FILL
    made = [text for name, text in found.items() if name not in TO_FILL]
    assert len(made) == len(set(made))
    assert all(len(text.strip()) >= 24 for text in made)
    assert len(base64.urlsafe_b64decode(found["airflow-fernet-key"])) == 32
    assert found["airflow-postgres-password"].strip() in found["airflow-database-url"]


def test_nobody_else_gets_into_the_folder_and_containers_read_the_files(host: Path) -> None:
    assert stat.S_IMODE((host / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((host / ".env").stat().st_mode) == 0o600
    for path in (host / "secrets").iterdir():
        wanted = 0o400 if path.name == "proxy-password" else 0o444
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path.name


def test_no_secret_is_said_or_in_env(tmp_path: Path) -> None:
    done = init(tmp_path)
    secrets = {text.strip() for text in contents(tmp_path).values()} - {""}
    told = done.stdout + done.stderr + (tmp_path / ".env").read_text()
    assert not [secret for secret in secrets if secret in told]


@pytest.mark.parametrize(
    ("origin", "registry"),
    [
        ("https://github.com/Some-One/Films.git", "ghcr.io/some-one/films"),
        ("git@github.com:someone/films", "ghcr.io/someone/films"),
        ("https://git.example.org/someone/films.git", None),
        ("https://github.com.example.org/someone/films.git", None),
        (None, None),
    ],
)
def test_images_are_those_of_the_repository_that_was_cloned(
    tmp_path: Path, origin: str | None, registry: str | None
) -> None:
    for path in (INIT, EXAMPLE):
        copy = tmp_path / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True)
        shutil.copy(path, copy)
    if origin is not None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git/config").write_text(f'[remote "origin"]\n\turl = {origin}\n')
    done = subprocess.run(
        [tmp_path / "deploy/bin/init"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    assert variables(tmp_path / "deploy/compose").get("MARQUEE_REGISTRY") == registry


def test_variable_that_an_older_file_lacks_is_added(tmp_path: Path) -> None:
    init(tmp_path)
    path = tmp_path / ".env"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "REGION" not in line))
    assert (
        "Set      MARQUEE_OBJECTS__REGION=eu-central-1" in init(tmp_path, "--region", "eu-central-1").stdout
    )
    assert variables(tmp_path)["MARQUEE_OBJECTS__REGION"] == "eu-central-1"


def test_that_nobody_is_told_of_alerts_is_said_until_somebody_is(tmp_path: Path) -> None:
    assert "nobody is told of alerts" in init(tmp_path).stdout
    webhook = tmp_path / "secrets" / "slack-errors-url"
    webhook.chmod(0o600)
    webhook.write_text("https://hooks.example.org/")
    assert "nobody is told of alerts" not in init(tmp_path).stdout


def test_second_run_changes_nothing(host: Path) -> None:
    before = contents(host), (host / ".env").read_text()
    done = init(host)
    assert done.returncode == 0, done.stderr
    assert (contents(host), (host / ".env").read_text()) == before
    assert "Made" not in done.stdout
    assert "Set " not in done.stdout


def test_later_run_adds_what_lacks_and_sets_what_is_given(tmp_path: Path) -> None:
    init(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "secrets" / "grafana-password").unlink()
    with (tmp_path / ".env").open("a") as file:
        file.write("MARQUEE_API_MEMORY=3g\n")
    done = init(tmp_path, "--tls", "ops@example.org")
    assert "Made     secrets/grafana-password" in done.stdout
    assert "Set      MARQUEE_TLS=ops@example.org" in done.stdout
    assert variables(tmp_path)["MARQUEE_TLS"] == "ops@example.org"
    assert variables(tmp_path)["MARQUEE_API_MEMORY"] == "3g"
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"grafana-password"}


def test_password_that_was_taken_away_is_not_made_again(tmp_path: Path) -> None:
    init(tmp_path)
    users = (tmp_path / "secrets" / "proxy-users").read_text()
    (tmp_path / "secrets" / "proxy-password").unlink()
    init(tmp_path)
    assert "proxy-password" not in contents(tmp_path)
    assert (tmp_path / "secrets" / "proxy-users").read_text() == users


@pytest.mark.parametrize("role", OF_ROLE)
def test_role_of_three_hosts_gets_its_own_secrets_and_addresses(role: str, tmp_path: Path) -> None:
    key = tmp_path / "operator.key"
    key.write_text("k" * 64)
    given = dict(zip(THREE[::2], THREE[1::2], strict=True))
    own = given.pop(f"--{role}")
    others = [part for pair in given.items() for part in pair]
    folder = tmp_path / "host"
    done = init(folder, "--role", role, "--site", "a.example.org", "--private-address", own, *others,
                "--operator-key", str(key))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(contents(folder)) == OF_ROLE[role]
    found = variables(folder)
    assert found["COMPOSE_FILE"] == f"{role}.yml"
    assert found["MARQUEE_PRIVATE_ADDRESS"] == found[f"MARQUEE_{role.upper()}"] == own
    assert found["MARQUEE_NERVOUS"] == "10.0.0.13"
    if role == "controltower":
        assert contents(folder)["operator-key"] == "k" * 64
    assert ("MARQUEE_OBJECTS__URL" in found) == (role == "workhorse")


def test_archive_is_here_elsewhere_or_nowhere(tmp_path: Path) -> None:
    init(tmp_path / "here")
    here = variables(tmp_path / "here")
    assert here["COMPOSE_PROFILES"] == "objects"
    assert here["MARQUEE_OBJECTS__ENDPOINT"] == "http://objects:7070"
    init(tmp_path / "bucket", "--objects", "s3://films/marquee")
    bucket = variables(tmp_path / "bucket")
    assert bucket["MARQUEE_OBJECTS__URL"] == "s3://films/marquee"
    assert not {"COMPOSE_PROFILES", "MARQUEE_OBJECTS__ENDPOINT"} & set(bucket)
    init(tmp_path / "none", "--objects", "none")
    assert not [name for name in variables(tmp_path / "none") if "OBJECTS" in name]


def test_service_here_is_asked_for_nothing_once_the_archive_is_elsewhere(tmp_path: Path) -> None:
    init(tmp_path)
    fresh = (tmp_path / ".env").read_text()
    done = init(tmp_path, "--objects", "s3://films/marquee", "--region", "eu-central-1")
    assert "Unset    MARQUEE_OBJECTS__ENDPOINT" in done.stdout
    found = {name: value for name, value in variables(tmp_path).items() if "OBJECTS" in name}
    assert found == {
        "MARQUEE_OBJECTS__URL": "s3://films/marquee",
        "MARQUEE_OBJECTS__REGION": "eu-central-1",
    }
    assert "COMPOSE_PROFILES" not in variables(tmp_path)
    init(tmp_path, "--objects", "here")
    assert (tmp_path / ".env").read_text() == fresh
    init(tmp_path, "--objects", "none")
    assert not {"COMPOSE_PROFILES", "MARQUEE_OBJECTS__URL"} & set(variables(tmp_path))


def test_change_of_archive_leaves_other_profiles_and_another_service_alone(tmp_path: Path) -> None:
    init(tmp_path)
    env = tmp_path / ".env"
    env.write_text(env.read_text().replace("=objects\n", "=objects,schedule\n"))
    init(tmp_path, "--objects", "s3://films/marquee")
    assert variables(tmp_path)["COMPOSE_PROFILES"] == "schedule"
    env.write_text(env.read_text() + "MARQUEE_OBJECTS__ENDPOINT=https://s3.example.org\n")
    init(tmp_path, "--objects", "s3://films/elsewhere")
    assert variables(tmp_path)["MARQUEE_OBJECTS__ENDPOINT"] == "https://s3.example.org"
    init(tmp_path, "--objects", "here")
    assert variables(tmp_path)["COMPOSE_PROFILES"] == "schedule,objects"


def test_site_is_watched_from_outside_once_it_has_a_name(tmp_path: Path) -> None:
    init(tmp_path)
    assert variables(tmp_path)["MARQUEE_OPS__WITHOUT"] == "site"
    init(tmp_path, "--tls", "ops@example.org")
    assert variables(tmp_path)["MARQUEE_OPS__WITHOUT"] == "site"
    init(tmp_path, "--site", "films.example.org")
    assert "MARQUEE_OPS__WITHOUT" not in variables(tmp_path)
    with (tmp_path / ".env").open("a") as file:
        file.write("MARQUEE_OPS__WITHOUT=site,airflow\n")
    init(tmp_path, "--site", "cinema.example.org")
    assert variables(tmp_path)["MARQUEE_OPS__WITHOUT"] == "site,airflow", "somebody's own wish"
    init(tmp_path, "--site", "localhost")
    init(tmp_path, "--site", "cinema.example.org")
    assert variables(tmp_path)["MARQUEE_OPS__WITHOUT"] == "airflow"


def test_later_run_without_a_role_is_for_that_of_the_host(tmp_path: Path) -> None:
    init(tmp_path, "--role", "nervous", "--site", "a.example.org", *THREE)
    env = tmp_path / ".env"
    env.write_text(env.read_text().replace("=nervous.yml", "=nervous.yml:my.yml"))
    before = env.read_text()
    (tmp_path / "secrets" / "grafana-password").unlink()
    done = init(tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(contents(tmp_path)) == OF_ROLE["nervous"]
    assert env.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--role", "database"), "the roles are"),
        (("--role", "nervous", "--site", "a.example.org"), "nervous needs --private-address"),
        (("--role", "nervous", "--private-address", "10.0.0.13", "--workhorse", "a"), "needs --controltower"),
        (
            ("--role", "controltower", "--site", "a.b", "--private-address", "10.0.0.12", *THREE),
            "--operator-key",
        ),
        (("--site", "a b"), "no value of MARQUEE_SITE"),
        (("--site", "a;b|c"), "no value of MARQUEE_SITE"),
        (("--tls", "yes"), "--tls takes"),
        (("--objects", "ftp://x"), "--objects takes"),
        (("--site",), "--site needs a value"),
        (("--colour", "red"), "usage"),
    ],
)
def test_mistake_is_named(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = init(tmp_path / "host", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_every_line_of_env_is_one_of_the_example(host: Path) -> None:
    names = {
        line.removeprefix("# ").partition("=")[0] for line in EXAMPLE.read_text().splitlines() if "=" in line
    }
    assert set(variables(host)) <= names
    assert not [value for value in variables(host).values() if value.startswith("e.g.")]


def test_password_opens_the_tools_behind_the_proxy_and_no_other_does(
    host: Path, run_caddy: Callable[..., AbstractContextManager[Any]]
) -> None:
    password = (host / "secrets" / "proxy-password").read_text().strip()
    with (
        run_caddy("Caddyfile", PROXY_USERS_FILE=str(host / "secrets" / "proxy-users")) as edge,
        httpx.Client(base_url=edge.url, verify=False, trust_env=False, timeout=60) as client,
    ):
        # 502: there is nothing behind it here.
        statuses = [
            client.get("/mlflow/", auth=auth).status_code
            for auth in (("admin", password), ("admin", password[:-1]), ("root", password))
        ]
    assert statuses[1:] == [401, 401]
    assert statuses[0] not in (401, 403)


def test_without_docker_group_it_says_who_may_run_compose(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert ("run docker compose as root" in done.stdout) == (os.geteuid() != 0 and "docker" not in groups())


def groups() -> str:
    return subprocess.run(["id", "-nG"], capture_output=True, text=True, check=True).stdout
