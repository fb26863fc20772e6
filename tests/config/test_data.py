"""Secrets that are files."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from marquee.config import Settings, load_settings
from marquee.errors import ConfigError, StoreError
from marquee.jobs import worker_app
from marquee.store.bulk import read_arrow
from marquee.store.postgres import Database

SECRET = "p@ss:w/o#r?d %41 ü"
URL = "postgresql://marquee@db.example.org:5432/marquee"

Write = Callable[[str | bytes], Path]


@pytest.fixture
def secret_file(tmp_path: Path) -> Write:
    """Write a file like those that Compose mounts."""

    def write(content: str | bytes) -> Path:
        file = tmp_path / "secret"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of these variables, without a file `.env`."""
    monkeypatch.chdir(tmp_path)

    def load(**variables: object) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"MARQUEE_{name}", str(value))
        return load_settings()

    return load


def url_of(settings: Settings) -> str:
    assert settings.database.url is not None
    return settings.database.url.get_secret_value()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_password_file_gives_the_url_its_password(
    environment: Callable[..., Settings], secret_file: Write, ending: str
) -> None:
    settings = environment(DATABASE__URL=URL, DATABASE__PASSWORD_FILE=secret_file(SECRET + ending))
    url = url_of(settings)
    assert conninfo_to_dict(url)["password"] == SECRET
    assert unquote(urlsplit(url).password or "") == SECRET
    assert url.replace(f":{urlsplit(url).password}@", "@") == URL
    assert SECRET not in f"{settings!r}{settings.model_dump()}"


def test_password_file_keeps_all_hosts_and_options_of_the_url(
    environment: Callable[..., Settings], secret_file: Write
) -> None:
    url = "postgresql://marquee@one:5432,two:5433/marquee?target_session_attrs=read-write"
    found = url_of(environment(DATABASE__URL=url, DATABASE__PASSWORD_FILE=secret_file("s3cret")))
    assert found == url.replace("marquee@", "marquee:s3cret@")


def test_settings_with_a_password_file_can_be_made_again(
    environment: Callable[..., Settings], secret_file: Write
) -> None:
    database = environment(DATABASE__URL=URL, DATABASE__PASSWORD_FILE=secret_file(SECRET)).database
    assert type(database)(**database.model_dump()) == database


@pytest.mark.parametrize(
    "url", ["postgresql://me:own@other.example.org/empty", "postgresql://me@other/empty"]
)
def test_another_url_brings_its_own_password(
    environment: Callable[..., Settings], secret_file: Write, url: str
) -> None:
    variables = {"DATABASE__URL": URL, "DATABASE__PASSWORD_FILE": secret_file(SECRET)}
    settings = environment(**variables, DATABASE__POOL_SIZE=7)
    other = settings.database.at(url)
    assert other.url is not None
    assert other.url.get_secret_value() == url
    assert other.pool_size == 7


@pytest.mark.parametrize(
    ("content", "url", "said"),
    [
        ("", URL, "MARQUEE_DATABASE__PASSWORD_FILE .* is empty"),
        ("\n", URL, "MARQUEE_DATABASE__PASSWORD_FILE .* is empty"),
        ("one\ntwo\n", URL, "more than one line"),
        (b"\xff\xfe", URL, "no UTF-8 text"),
        ("s3cret", None, "MARQUEE_DATABASE__URL is not"),
        ("s3cret", "postgresql:///marquee", "names no user"),
        ("s3cret", "postgresql://db.example.org/marquee", "names no user"),
        ("s3cret", "postgresql://marquee:other@db.example.org/marquee", "holds a password"),
    ],
)
def test_password_file_that_gives_no_clear_password_is_refused(
    environment: Callable[..., Settings], secret_file: Write, content: str | bytes, url: str | None, said: str
) -> None:
    variables = {} if url is None else {"DATABASE__URL": url}
    with pytest.raises(ConfigError, match=said) as refused:
        environment(DATABASE__PASSWORD_FILE=secret_file(content), **variables)
    assert refused.value.fix
    assert not re.search("s3cret|other", str(refused.value))


@pytest.mark.parametrize("name", ["DATABASE__PASSWORD_FILE", "TMDB__BEARER_TOKEN_FILE"])
def test_secret_file_that_is_not_there_is_named(
    environment: Callable[..., Settings], tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=f"MARQUEE_{name} {tmp_path}/none cannot be read: No such file"):
        environment(DATABASE__URL=URL, **{name: tmp_path / "none"})


def test_secret_file_without_a_name_is_none(environment: Callable[..., Settings]) -> None:
    settings = environment(DATABASE__URL=URL, DATABASE__PASSWORD_FILE="", TMDB__BEARER_TOKEN_FILE="")
    assert url_of(settings) == URL
    assert not settings.tmdb.configured


def test_token_file_is_the_token(environment: Callable[..., Settings], secret_file: Write) -> None:
    settings = environment(TMDB__BEARER_TOKEN_FILE=secret_file("eyJ.token\n"))
    assert settings.tmdb.bearer_token is not None
    assert settings.tmdb.bearer_token.get_secret_value() == "eyJ.token"
    assert settings.tmdb.configured


def test_empty_token_file_is_no_token(environment: Callable[..., Settings], secret_file: Write) -> None:
    """Compose mounts a file for every secret, and not everyone has a key of TMDB."""
    assert not environment(TMDB__BEARER_TOKEN_FILE=secret_file("\n")).tmdb.configured


def test_token_file_with_a_placeholder_is_refused(
    environment: Callable[..., Settings], secret_file: Write
) -> None:
    with pytest.raises(ConfigError, match="placeholder"):
        environment(TMDB__BEARER_TOKEN_FILE=secret_file("changeme"))


def test_token_and_another_one_in_a_file_are_refused(
    environment: Callable[..., Settings], secret_file: Write
) -> None:
    with pytest.raises(ConfigError, match="both set"):
        environment(TMDB__BEARER_TOKEN="one", TMDB__BEARER_TOKEN_FILE=secret_file("two"))


@pytest.fixture
def guarded_url(server_url: str) -> Iterator[str]:
    """A database of a role that the server asks for its password, in a URL without it."""
    name = f"guarded_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        found = connection.execute("SHOW hba_file").fetchone()
        assert found is not None
        rules = Path(found[0])
        before = rules.read_text()
        rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{before}")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(SECRET))
        )
        connection.execute(f"CREATE DATABASE {name} OWNER {name}")
        connection.execute("SELECT pg_reload_conf()")
        yield f"postgresql://{name}@{server_url.rpartition('@')[2].partition('/')[0]}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.integration
async def test_all_who_connect_have_the_password_of_the_file(
    environment: Callable[..., Settings], secret_file: Write, guarded_url: str, tmp_path: Path
) -> None:
    settings = environment(
        HOME=tmp_path / "home", DATABASE__URL=guarded_url, DATABASE__PASSWORD_FILE=secret_file(f"{SECRET}\n")
    )
    with Database.open(settings) as database:
        assert read_arrow(database, "SELECT 1 AS one").to_pydict() == {"one": [1]}
        async with database.async_engine().connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
        await database.async_engine().dispose()
        async with worker_app(database).open_async() as app:
            await app.check_connection_async()  # whether its tables are there; they need not be


@pytest.mark.integration
def test_server_that_asks_for_a_password_refuses_another_one(
    environment: Callable[..., Settings], secret_file: Write, guarded_url: str, tmp_path: Path
) -> None:
    """Else the test above would show nothing."""
    settings = environment(
        HOME=tmp_path / "home", DATABASE__URL=guarded_url, DATABASE__PASSWORD_FILE=secret_file("other")
    )
    with pytest.raises(StoreError):
        Database.open(settings).close()
