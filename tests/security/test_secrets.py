"""Where secrets lie, and where they never do. What servers write is searched by tests/e2e/test_secrets.py."""

import asyncio
import hashlib
import re
from pathlib import Path

import pytest

from marquee.api.credentials import KeyRing
from marquee.config import Settings
from marquee.store.repositories import keys

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

SOURCE = Path(__file__).parents[2] / "src/marquee"


def secret_of(key: str) -> str:
    return key.split("_", 2)[2]


async def test_of_a_key_only_its_digest_is_stored(world):
    def read():
        with world.app.state.services.database.begin() as connection:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            names = connection.exec_driver_sql(query).scalars().all()
            rows = {name: str(connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()) for name in names}
            return rows, keys.everything(connection)

    everything, shown = await asyncio.to_thread(read)  # each table's lock may be the application's just then
    assert everything["api_keys"].count("operator") >= 1
    for name, text in everything.items():
        for role in ("viewer", "service", "operator", "revoked"):
            assert secret_of(world.keys[role]) not in text, name
    for record in shown:
        assert not [value for value in vars(record).values() if isinstance(value, bytes)]


async def test_keys_are_long_random_and_found_by_their_digest(world):
    """So the time of a comparison tells nothing: whoever guesses has no hand in what is compared."""
    made = [world.keys[role] for role in ("viewer", "service", "operator")]
    assert all(re.fullmatch(r"mq_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", key) for key in made)
    ring = world.app.state.access.keys
    known = ring._keys
    assert set(known) == {hashlib.sha256(key.encode()).digest() for key in made}
    for key in made:
        assert ring.find(key.encode()) is not None
        for other in (key[:-1], key + "x", key.swapcase(), key.split("_")[2], f" {key}", key.encode().hex()):
            assert ring.find(other.encode()) is None


async def test_key_that_was_shown_before_is_forgotten_when_it_is_revoked():
    async def valid(_):
        return [keys.ValidKey("0123456789", "operator", keys.digest(b"mq_0123456789_x"))], True

    async def none(_):
        return [], True

    ring = KeyRing(None)
    await ring.refresh(valid)
    assert ring.find(b"mq_0123456789_x") is not None
    await ring.refresh(none)
    assert ring.find(b"mq_0123456789_x") is None
    assert not ring.is_empty


async def test_nothing_that_anybody_may_read_holds_a_secret(world):
    async with world.client() as client:
        await client.post("/v1/session")  # the first cookie makes the secret that signs them
        cookie_secret = (world.settings.paths.secrets / "cookies.key").read_text()
        planted = [*map(secret_of, world.keys.values()), cookie_secret]
        texts = [(await client.get(path)).text for path in ("/metrics", "/openapi.json", "/info", "/health",
                 "/config.json", "/readyz", "/v1/runs", "/docs")]  # fmt: skip
        headers = world.bearer("garbage")
        texts.append((await client.get("/v1/overview", headers=headers)).text)
        texts.append((await client.get(f"/v1/models/{world.keys['operator']}", headers=headers)).text)
        overview = await client.get("/v1/overview", headers=world.bearer("operator"))
        texts.append(overview.text)
    assert overview.status_code == 200
    for secret in planted:
        assert not [text for text in texts if secret in text]


async def test_settings_never_show_their_secrets(tmp_path):
    planted = {"bearer_token": "tmdb-Pl4nted", "api_key": "0123456789abcdef0123456789abcdef"}
    url = "postgresql://me:pg-Pl4nted@db/marquee"
    settings = Settings(home=tmp_path, tmdb=planted, database={"url": url})
    for text in (repr(settings.tmdb), str(settings.tmdb), settings.tmdb.model_dump_json()):
        assert not [value for value in planted.values() if value in text]


async def test_no_secret_is_an_argument_of_a_command():
    """Everybody on a machine can read those; secrets come by files and variables."""
    options = set()
    for path in (SOURCE / "cli").glob("*.py"):
        options |= set(re.findall(r'"(--[a-z-]+)"', path.read_text()))
    assert options
    assert not {option for option in options if re.search(r"password|secret|token|api-?key", option)}


async def test_randomness_of_secrets_is_that_of_the_system():
    for name in ("store/secrets.py", "store/repositories/keys.py"):
        text = (SOURCE / name).read_text()
        assert "import secrets" in text
        assert "import random" not in text
