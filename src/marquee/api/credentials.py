"""
What callers show: API keys, and the cookies of visitors.

Both are looked up in memory. Keys are read from the database, again whenever one is made or revoked; a cookie
needs no table, since its signature says that it is one of ours.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from itsdangerous import BadSignature, TimestampSigner

from marquee.errors import ConfigError, StoreError
from marquee.store.repositories import keys
from marquee.store.repositories.keys import ValidKey
from marquee.telemetry import get_logger

__all__ = ["COOKIE_SECONDS", "Cookies", "KeyRing", "read_operator_key"]

POLL_SECONDS: Final = 1.0
RECORD_SECONDS: Final = 60.0
LEAST_KEY: Final = 32
"""Characters of an operator key that a person has chosen."""
OPERATOR_KEY_ID: Final = "operator-key-file"

COOKIE_SECONDS: Final = 180 * 86_400
KEPT_KEYS: Final = 1_024
KEPT_COOKIES: Final = 16_384
"""Cookies whose signature need not be computed again."""
OWN: Final = b"~"
"""Between the user who is played and the visitor's own."""
COOKIE: Final = re.compile(rb'(?:^|; ?)marquee_session="?([^;"\s]*)')


class KeyRing:
    """
    The valid API keys, as the database last had them.

    Args:
        operator_key: one that is valid without the database.

    Attributes:
        readable: whether the last look at the table succeeded. Keys known from before stay valid without it.
        none_made: no key was ever made, as far as is known.
    """

    def __init__(self, operator_key: bytes | None) -> None:
        self.readable = False
        self.none_made = False
        self._configured = {} if operator_key is None else _by_digest([_configured_key(operator_key)])
        self._keys: Mapping[bytes, ValidKey] = self._configured
        self._shown: dict[bytes, ValidKey] = {}  # valid ones only, so that their hashes are made once
        self._used: dict[str, datetime] = {}
        self._recorded = time.monotonic()
        self._news = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether it is certain that there is no key at all, and never was."""
        return self.none_made and self.readable and not self._configured

    def find(self, key: bytes) -> ValidKey | None:
        """The record of a key that was shown, None where it opens nothing."""
        found = self._shown.get(key)
        if found is None:
            # Looked up by its hash: how long that takes says nothing about the keys that there are.
            found = self._keys.get(keys.digest(key))
            if found is not None:
                if len(self._shown) >= KEPT_KEYS:
                    self._shown.clear()
                self._shown[key] = found
        if found is not None:
            self._used[found.key_id] = datetime.now(UTC)
        return found

    def changed(self, _: str = "") -> None:
        """Have the table read again soon."""
        self._news.set()

    async def refresh(self, run: Callable[..., Awaitable[Any]]) -> None:
        """
        Read the table, and at most each minute record when keys were used.

        Args:
            run: `Services.run`.
        """
        try:
            valid, any_made = await run(keys.valid)
            self._keys = {**_by_digest(valid), **self._configured}
            self._shown = {}
            self.none_made, self.readable = not any_made, True
            if self._used and time.monotonic() - self._recorded > RECORD_SECONDS:
                await self.record_use(run)
        except StoreError as error:
            if self.readable:
                get_logger().error("access.keys_unreadable", error=str(error))
            self.readable = False

    async def refresh_for_ever(self, run: Callable[..., Awaitable[Any]]) -> None:
        """Follow the table: at once when told that it changed, else each second."""
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass  # nothing was heard, which may mean that nothing can be heard now
            self._news.clear()
            try:
                await self.refresh(run)
            except Exception:  # whatever goes wrong in one round, revoked keys must be seen in the next
                self.readable = False
                get_logger().exception("access.refresh_broke")

    async def record_use(self, run: Callable[..., Awaitable[Any]]) -> None:
        """Write when keys were last used."""
        used, self._used = self._used, {}
        self._recorded = time.monotonic()
        used.pop(OPERATOR_KEY_ID, None)
        if used:
            await run(keys.record_use, used)


class Cookies:
    """
    Signed cookies, each of which names one user.

    Who plays a virtual user is that user, and the cookie keeps whom they were before: `played~own`.

    Args:
        secret: `read_secret(…, "cookies")`.
    """

    def __init__(self, secret: bytes) -> None:
        self._signer = TimestampSigner(secret, salt="marquee.session", digest_method=sha256)
        self._kept: dict[bytes, tuple[int, float]] = {}

    def user_of(self, header: bytes) -> int | None:
        """Whom a `Cookie` header names; None where no cookie is ours, or it is forged or too old."""
        match = COOKIE.search(header)
        if match is None:
            return None
        value = match[1]
        known = self._kept.get(value)
        if known is None:
            try:
                signed, made = self._signer.unsign(value, max_age=COOKIE_SECONDS, return_timestamp=True)
                known = int(signed.partition(OWN)[0]), made.timestamp() + COOKIE_SECONDS
            except (BadSignature, ValueError):
                return None
            while len(self._kept) >= KEPT_COOKIES:
                del self._kept[next(iter(self._kept))]
            self._kept[value] = known
        user_id, ends = known
        return user_id if time.time() < ends else None

    def own_user_of(self, header: bytes) -> int | None:
        """Whom a `Cookie` header names when nobody is played."""
        match = COOKIE.search(header)
        if match is None or self.user_of(header) is None:
            return None
        return int(self._signer.unsign(match[1]).rpartition(OWN)[2])

    def header_for(self, user_id: int, *, own: int | None = None, secure: bool) -> str:
        """
        The value of `Set-Cookie` that makes a visitor this user.

        Args:
            own: whom the visitor becomes again, where this user is played.
        """
        named = str(user_id) if own is None else f"{user_id}{OWN.decode()}{own}"
        value = self._signer.sign(named).decode()
        end = "; Secure" if secure else ""
        return f"marquee_session={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{end}"


def read_operator_key(path: Path | None) -> bytes | None:
    """
    The key in `settings.operator_key_file`.

    Raises:
        ConfigError: the file cannot be read, or what it holds could be guessed.
    """
    if path is None:
        return None
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"MARQUEE_OPERATOR_KEY_FILE {path} cannot be read: {error.strerror}.",
            fix="Write a long random key into it: openssl rand -hex 32",
        ) from None
    if len(key) < LEAST_KEY or re.search(rb"[^!-~]", key):
        raise ConfigError(
            f"MARQUEE_OPERATOR_KEY_FILE {path} must hold {LEAST_KEY} or more characters without spaces.",
            fix="Write a long random key into it: openssl rand -hex 32",
        )
    return key


def _configured_key(key: bytes) -> ValidKey:
    return ValidKey(OPERATOR_KEY_ID, "operator", keys.digest(key))


def _by_digest(valid: list[ValidKey]) -> dict[bytes, ValidKey]:
    return {key.digest: key for key in valid}
