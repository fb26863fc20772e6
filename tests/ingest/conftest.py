"""A TMDB that runs on loopback, and the tables as values to compare."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from waiting import until

from marquee.config import Settings, TmdbSettings
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

BEARER = "bearer-3f9c2b7a11"
API_KEY = "apikey-77d01c5e42"
GENRES = [{"id": 18, "name": "Drama"}, {"id": 53, "name": "Thriller"}, {"id": 35, "name": "Comedy"}]
CONFIGURATION = {
    "images": {
        "base_url": "http://image.tmdb.org/t/p/",
        "secure_base_url": "https://image.tmdb.org/t/p/",
        "poster_sizes": ["w92", "w154", "w185", "w342", "w500", "w780", "original"],
    },
    "change_keys": ["adult", "air_date"],
}


def movie(item_id: int, language: str = "en-US") -> dict[str, Any]:
    """Details with everything appended, of the shape that the API answers with; invented facts."""
    return {
        "adult": False,
        "backdrop_path": f"/backdrop{item_id}.jpg",
        "belongs_to_collection": {"id": 10, "name": "Series"} if item_id % 2 else None,
        "budget": 63000000,
        "genres": [
            {"id": 18, "name": "드라마" if language == "ko-KR" else "Drama"},
            {"id": 53, "name": "Thriller"},
        ],
        "homepage": "",
        "id": item_id,
        "imdb_id": f"tt{item_id:07}",
        "original_language": "en",
        "original_title": f"Film {item_id}",
        "overview": f"About {item_id}.",
        "popularity": 100.5 - item_id / 100,
        "poster_path": None if item_id % 5 == 0 else f"/poster{item_id}.jpg",
        "release_date": "" if item_id % 7 == 0 else "1999-10-15",
        "runtime": 0 if item_id % 11 == 0 else 139,
        "status": "Released",
        "tagline": "",
        "title": f"{'영화' if language == 'ko-KR' else 'Film'} {item_id}",
        "video": False,
        "vote_average": 8.428,
        "vote_count": 25223,
        "keywords": {"keywords": [{"id": 825, "name": "support group"}]},
        "credits": {
            "cast": [{"id": 2, "name": "Second", "order": 1}, {"id": 1, "name": "First", "order": 0}],
            "crew": [{"id": 3, "name": "Boss", "job": "Director"}, {"id": 4, "name": "Pen", "job": "Writer"}],
        },
        "translations": {
            "translations": [
                {"iso_639_1": "en", "iso_3166_1": "US", "data": {"title": "", "overview": "", "tagline": ""}},
                {
                    "iso_639_1": "es",
                    "iso_3166_1": "ES",
                    "data": {"title": "Película", "overview": "De España."},
                },
                {
                    "iso_639_1": "es",
                    "iso_3166_1": "MX",
                    "data": {"title": "Película", "overview": "De México."},
                },
                {"iso_639_1": "ko", "iso_3166_1": "KR", "data": {"title": "영화", "overview": "이야기."}},
            ]
        },
    }


def error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The usual error body."""
    body = {"status_code": code, "status_message": message, "success": False}
    return JSONResponse(body, status, headers)


def broken_json() -> Response:
    """An answer that was cut off."""
    return Response(json.dumps(movie(1))[:200], media_type="application/json")


@dataclass
class FakeTmdb:
    """
    What the server answers; tests change it.

    Attributes:
        faults: path → answers to give first, in order; None: hang until the client gives up.
        arrivals: (seconds, path) of every request.
    """

    bearer = BEARER
    api_key = API_KEY
    error = staticmethod(error)
    broken_json = staticmethod(broken_json)
    movie = staticmethod(movie)

    url: str = ""
    movies: int = 60
    page_size: int = 20
    total_pages: int | None = None
    first_of_page: dict[int, int] = field(default_factory=dict)
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[Response | None]] = field(default_factory=dict)
    arrivals: list[tuple[float, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for _, path in self.arrivals]

    async def answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/3")
        self.arrivals.append((time.monotonic(), path))
        self.queries.append(dict(request.query_params))
        if self.faults.get(path):
            fault = self.faults[path].pop(0)
            if fault is not None:
                return fault
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
            return Response(status_code=499)
        authorised = request.headers.get("authorization") == f"Bearer {BEARER}"
        if not authorised and request.query_params.get("api_key") != API_KEY:
            return error(401, 7, "Invalid API key: You must be granted a valid key.")
        if path == "/configuration":
            return JSONResponse(CONFIGURATION)
        if path == "/genre/movie/list":
            return JSONResponse({"genres": GENRES})
        if path == "/movie/popular":
            return self._popular(int(request.query_params["page"]))
        item_id = int(path.rpartition("/")[2])
        content = movie(item_id, request.query_params["language"]) | self.changed.get(item_id, {})
        return JSONResponse(content)

    def _popular(self, page: int) -> Response:
        if not 1 <= page <= 500:
            return JSONResponse({"errors": ["page must be less than or equal to 500"], "success": False}, 422)
        first = self.first_of_page.get(page, (page - 1) * self.page_size + 1)
        ids = range(first, min(first + self.page_size, self.movies + 1))
        total = self.total_pages or -(-self.movies // self.page_size)
        results = [{"id": i, "title": f"Film {i}", "genre_ids": [18], "poster_path": None} for i in ids]
        return JSONResponse(
            {"page": page, "results": results, "total_pages": total, "total_results": self.movies}
        )


@pytest.fixture
def tmdb() -> Iterator[FakeTmdb]:
    """A server that answers like TMDB, on a loopback port of its own."""
    fake = FakeTmdb()
    app = Starlette(routes=[Route("/{path:path}", fake.answer)])
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    fake.url = f"http://127.0.0.1:{port}/3"
    yield fake
    server.should_exit = True
    thread.join()


@pytest.fixture
def tmdb_settings(tmdb: FakeTmdb) -> TmdbSettings:
    """Settings that point to the server."""
    settings = TmdbSettings(base_url=tmdb.url, bearer_token=BEARER, movies=45, timeout_seconds=10)
    return settings.model_copy(update={"requests_per_second": 5000.0})  # past what settings allow


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    """An empty object store."""
    return ObjectStore(settings.paths.objects)


Tables = dict[str, list[dict[str, Any]]]

CONTENT = {
    "items": "item_id, title, release_date, runtime_minutes, genres, keywords, people, collection_id, "
    "poster_path, overview, source, removed_at",
    "item_facts": "item_id, observed_at, popularity, vote_average, vote_count",
    "item_texts": "item_id, language, title, overview, tagline, poster_path",
    "users": "user_id, kind",
    "interactions": "user_id, item_id, event, rating, watch_seconds, occurred_at, source, event_key, revokes",
    "quarantine": "source, reason, content",
}


@pytest.fixture
def tables() -> Callable[[Database], Tables]:
    """Reads everything that ingest writes, without the times and numbers that each run gives anew."""

    def read(database: Database) -> Tables:
        with database.begin() as connection:
            found = {
                name: connection.exec_driver_sql(f"SELECT {columns} FROM {name}").all()
                for name, columns in CONTENT.items()
            }
        return {name: sorted((dict(row._mapping) for row in rows), key=repr) for name, rows in found.items()}

    return read
