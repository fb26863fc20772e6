"""
The TMDB API over HTTP: one rate for all tasks, retries where they help, a key that never shows.

Source: https://developer.themoviedb.org/reference (v3), https://developer.themoviedb.org/docs/errors.
"""

import asyncio
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import msgspec
import stamina

from marquee.config import TmdbSettings
from marquee.errors import ConfigError, DataError, NotFoundError, SourceUnavailableError

__all__ = ["LAST_PAGE", "TmdbClient"]

LAST_PAGE: Final = 500  # the API refuses later pages, whatever `total_pages` says
CONNECTIONS: Final = 16
LONGEST_PAUSE_SECONDS: Final = 300.0
SIGN_UP: Final = "Get a key at https://www.themoviedb.org/settings/api and set MARQUEE_TMDB__BEARER_TOKEN."


class TmdbClient:
    """
    Answers of the TMDB API as bytes that are whole JSON documents.

    Args:
        settings: key, address, rate, time-out, attempts.

    Raises:
        ConfigError: no key is set.
    """

    def __init__(self, settings: TmdbSettings) -> None:
        if not settings.configured:
            raise ConfigError("No TMDB key is set.", fix=SIGN_UP)
        self._settings = settings
        self._secrets = [
            key.get_secret_value() for key in (settings.bearer_token, settings.api_key) if key is not None
        ]
        self._pacer = Pacer(settings.requests_per_second)
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._http = httpx.AsyncClient(
            base_url=settings.base_url.rstrip("/"),
            transport=_KeyedTransport(settings),
            headers={"Accept": "application/json"},
            timeout=None,  # one limit for the whole request, in `_once`: a slow drip must not outlive it  # noqa: S113
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> bytes:
        """
        One answer.

        Args:
            path: below the base address, for example `/movie/550`.
            parameters: the query, without the key.

        Raises:
            ConfigError: the key was refused.
            NotFoundError: no such thing.
            SourceUnavailableError: no usable answer in all attempts.
            DataError: any other refusal.
        """
        async for attempt in stamina.retry_context(
            on=SourceUnavailableError,
            attempts=self._settings.attempts,
            timeout=None,
            wait_initial=0.2,
            wait_max=10.0,
            wait_jitter=0.5,
        ):
            with attempt:
                async with self._slots:
                    await self._pacer.wait()
                    return await self._once(path, parameters or {})
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, path: str, parameters: Mapping[str, str | int]) -> bytes:
        limit = self._settings.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                response = await self._http.get(path, params=dict(parameters))
        except (TimeoutError, httpx.TimeoutException):
            raise _unavailable(path, f"did not answer within {limit:g} s") from None
        except httpx.HTTPError as error:
            raise _unavailable(path, f"cannot be reached ({type(error).__name__})") from None
        if response.status_code != httpx.codes.OK:
            raise self._refusal(path, response)
        try:
            msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            raise _unavailable(path, "sent broken JSON") from None
        return self._clean(response.content)

    def _refusal(self, path: str, response: httpx.Response) -> Exception:
        status = response.status_code
        said = f"{status}: {_message(self._clean(response.content))}"
        if status in (401, 403):
            return ConfigError(f"TMDB refused the key ({said}).", fix=SIGN_UP)
        if status == 404:
            return NotFoundError(f"TMDB knows no {path} ({said}).")
        if status == 429:
            self._pacer.pause(_retry_after(response.headers.get("Retry-After")))
        if status in (408, 429) or status >= 500:
            return _unavailable(path, f"answered {said}")
        return DataError(
            f"TMDB refused {path} ({said}).", fix="Check MARQUEE_TMDB__LANGUAGE and MARQUEE_TMDB__REGION."
        )

    def _clean(self, content: bytes) -> bytes:
        """An answer that echoes the key must not carry it into a file or message."""
        for secret in self._secrets:
            content = content.replace(secret.encode(), b"***")
        return content


class Pacer:
    """
    Evenly spaced permissions, shared by all tasks of one event loop.

    Args:
        per_second: the highest rate.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next = 0.0
        self._paused_until = 0.0

    async def wait(self) -> None:
        """Return when this task may send its request."""
        clock = asyncio.get_running_loop().time
        while True:
            at = max(clock(), self._next, self._paused_until)
            self._next = at + self._interval
            await asyncio.sleep(at - clock())
            if clock() >= self._paused_until:
                return

    def pause(self, seconds: float) -> None:
        """Hold back all tasks, those that already wait for their turn too."""
        until = asyncio.get_running_loop().time() + min(seconds, LONGEST_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, until)


class _KeyedTransport(httpx.AsyncBaseTransport):
    """Adds the key below the client, so that no request that httpx logs or attaches to an error holds it."""

    def __init__(self, settings: TmdbSettings) -> None:
        url = httpx.URL(settings.base_url)
        proxy = urllib.request.getproxies().get(url.scheme)
        if urllib.request.proxy_bypass(url.host):
            proxy = None
        limits = httpx.Limits(max_connections=CONNECTIONS)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)
        self._settings = settings

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url, headers = request.url, request.headers.copy()
        if self._settings.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token.get_secret_value()}"
        elif self._settings.api_key is not None:
            url = url.copy_merge_params({"api_key": self._settings.api_key.get_secret_value()})
        keyed = httpx.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(keyed)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _unavailable(path: str, what: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"TMDB {what} for {path}.", fix="Try again later.")


def _message(content: bytes) -> str:
    """The words of an error body: `{"status_message"}` or the older `{"errors": […]}`."""
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict):
        if isinstance(body.get("status_message"), str):
            return str(body["status_message"]).rstrip(".")[:300]
        if isinstance(body.get("errors"), list):
            return "; ".join(map(str, body["errors"]))[:300]
    return "no message"


def _retry_after(header: str | None) -> float:
    """Seconds of a `Retry-After` header, which holds seconds or a date; 1 where it says nothing."""
    if header is None:
        return 1.0
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 1.0
