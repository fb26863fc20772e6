"""
The site: its built files, its page at every address that only the browser knows, and its run-time options.

It answers what no route of the API answers. The files are read once, when the service starts, and found by
their whole name, so no path leads out of their folder, and a page never meets files of another build.
"""

import asyncio
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from marquee import __version__
from marquee.config import Settings

__all__ = ["Site"]

BUILT: Final = Path(__file__).with_name("site_files")
ASSETS: Final = "/assets/"
"""What lies here has a digest of its content in its name."""
NEVER_PAGES: Final = (ASSETS, "/v1/", "/run/", "/docs-assets/", "//")
"""Below these nothing is the browser's own: an unknown path is an error for everyone."""

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Ours and not the machine's: a script of the wrong type is not run."""
PACKED: Final = frozenset({".ico", ".jpg", ".png", ".webp", ".woff2"})
ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}
"""Content coding → ending of a file that is already in it; the better ones first."""
LEAST_BYTES: Final = 1024
"""Less is not worth compressing."""

FOR_EVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"

NOT_BUILT: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Marquee</title></head>
<body>
<h1>Marquee is running</h1>
<p>Its site is not built yet. Run <code>make web</code>, then start Marquee again.</p>
<p>The API explains itself at <a href="/docs">/docs</a>.</p>
</body>
</html>
"""


@dataclass(slots=True)
class _File:
    """A file as it is sent, by content coding; the coding "" is none."""

    media_type: str
    cache_control: str
    bodies: dict[str, bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    compressible: bool = False

    def __post_init__(self) -> None:
        body = self.bodies[""]
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
        self.compressible = self.compressible and len(body) >= LEAST_BYTES


class Site:
    """
    ASGI application of the site.

    Args:
        otherwise: answers what is not the site's.
    """

    def __init__(self, settings: Settings, otherwise: ASGIApp) -> None:
        self._otherwise = otherwise
        self._settings = settings
        folder = settings.site.folder or BUILT
        self._files = {path: _read(file, path) for path, file in _found(folder)}
        self._files["/config.json"] = _File("application/json", ASK_AGAIN, {"": _options(settings, "")})
        page = self._files.pop("/index.html", None)
        self.is_built = page is not None
        self._page = page or _File(MEDIA_TYPES[".html"], ASK_AGAIN, {"": NOT_BUILT.encode()})
        self._page.headers = {
            "content-security-policy": _policy(settings),
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
            "vary": "accept, accept-encoding",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection that no route of the API has taken."""
        response = await self._response(scope) if scope["type"] == "http" else None
        await (response or self._otherwise)(scope, receive, send)

    async def page(self, scope: Scope) -> Response | None:
        """The page, for a client that would rather see HTML than JSON; None for others."""
        headers = Headers(scope=scope)
        # Below a prefix lies the API alone; a page would look for its files in vain.
        if scope.get("root_path") or not _prefers_html(headers.get("accept", "")):
            return None
        scope["marquee.route"] = "/{page}"
        return await _answer(self._page, headers)

    async def _response(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return None
        path, prefix = scope["path"], scope.get("root_path")
        if prefix:
            if path != f"{prefix}/config.json":
                return None
            scope["marquee.route"] = "/config.json"
            options = _File("application/json", ASK_AGAIN, {"": _options(self._settings, prefix)})
            return await _answer(options, Headers(scope=scope))
        file = self._files.get(path)
        if file is not None:
            # In metrics all of them are one: names of assets differ with each build.
            scope["marquee.route"] = f"{ASSETS}{{name}}" if path.startswith(ASSETS) else path
            return await _answer(file, Headers(scope=scope))
        return await self.page(scope) if self.is_built and not path.startswith(NEVER_PAGES) else None


def _found(folder: Path) -> Iterator[tuple[str, Path]]:
    """URL path and file of what the build has made; what is another's compressed form aside."""
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file() and not hidden and file.suffix not in (".map", *ENCODINGS.values()):
            yield f"/{name.as_posix()}", file


def _read(file: Path, path: str) -> _File:
    bodies = {"": file.read_bytes()}
    for encoding, ending in ENCODINGS.items():
        packed = file.with_name(file.name + ending)
        if packed.is_file():
            bodies[encoding] = packed.read_bytes()
    suffix = PurePosixPath(path).suffix
    return _File(
        MEDIA_TYPES.get(suffix, "application/octet-stream"),
        FOR_EVER if path.startswith(ASSETS) else ASK_AGAIN,
        bodies,
        compressible=suffix in MEDIA_TYPES and suffix not in PACKED,
    )


async def _answer(file: _File, headers: Headers) -> Response:
    kept = {"cache-control": file.cache_control, "etag": file.etag, "vary": "accept-encoding", **file.headers}
    if file.etag.removeprefix("W/") in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=kept)
    accepted = _qualities(headers.get("accept-encoding", ""))
    encoding = next((name for name in (*file.bodies, "gzip") if name and accepted.get(name, 0) > 0), "")
    if encoding and encoding not in file.bodies:
        if file.compressible:
            file.bodies[encoding] = await asyncio.to_thread(gzip.compress, file.bodies[""], 9, mtime=0)
        else:
            encoding = ""
    if encoding:
        kept["content-encoding"] = encoding
    return Response(file.bodies[encoding], headers={**kept, "content-type": file.media_type})


def _options(settings: Settings, prefix: str) -> bytes:
    """
    What the page reads when it starts, so that one build serves every host.

    Args:
        prefix: path that the API was asked below; the page finds it there.
    """
    site = settings.site
    return orjson.dumps(
        {
            "api": site.api or prefix,
            "demo": settings.demo,
            "version": __version__,
            "languages": site.languages,
            "images": site.images,
            "links": {"mlflow": site.mlflow_url, "airflow": site.airflow_url, "grafana": site.grafana_url},
        }
    )


def _policy(settings: Settings) -> str:
    """Nothing but our own files, the API, and posters."""
    api = settings.site.api or "/"
    elsewhere = "" if api.startswith("/") else f" {_origin(api)}"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data: {_origin(settings.site.images)}",
            "font-src 'self'",
            f"connect-src 'self'{elsewhere}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _prefers_html(accept: str) -> bool:
    """Whether an `Accept` asks for HTML before JSON; what names both alike is a program."""
    wanted = _qualities(accept)
    html = wanted.get("text/html", 0)
    if "application/json" in wanted:
        return html > wanted["application/json"]
    return html > 0 and html >= wanted.get("*/*", 0)


def _qualities(header: str) -> dict[str, float]:
    """The names in a header such as `Accept`, with their weights of 0–1."""
    found = {}
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 0.0
    return found
