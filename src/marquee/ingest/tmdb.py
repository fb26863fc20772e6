"""The catalogue of TMDB: popular movies with details, and the renewal of facts that grow old."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from marquee.config import TmdbSettings
from marquee.errors import NotFoundError, SourceUnavailableError
from marquee.ingest.load import IngestReport, Intake, Progress
from marquee.ingest.tmdb_client import LAST_PAGE, TmdbClient
from marquee.ingest.tmdb_contract import Answer, Configuration, Genres, Listed, Movie, Page, Text, decode
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items as item_repository
from marquee.telemetry import get_logger

__all__ = ["FACTS_KEPT", "KeptAnswers", "ingest_tmdb"]

SOURCE: Final = "tmdb"
FACTS_KEPT: Final = timedelta(days=180)
"""How old facts may grow: TMDB's terms allow six months."""

RENEWED_AFTER: Final = FACTS_KEPT - timedelta(days=30)  # so that a monthly run never lets them expire
PAGE_SIZE: Final = 20
PAGES_AT_A_TIME: Final = 10
MOVIES_AT_A_TIME: Final = 100
CAST_KEPT: Final = 10
GENRE_LANGUAGE: Final = "en-US"  # genres are features: one spelling for all sources and settings


def ingest_tmdb(
    database: Database,
    objects: ObjectStore,
    settings: TmdbSettings,
    progress: Progress | None = None,
    *,
    now: datetime | None = None,
) -> IngestReport:
    """
    Bring the popular movies of TMDB into the catalogue and renew what is about to grow too old.

    A movie that TMDB has deleted is marked as removed. What TMDB has not confirmed for `FACTS_KEPT`, and
    every day's facts older than that, is dropped. `item_facts` gets one row per movie and day, so that a
    second run on one day adds none.

    Args:
        settings: key, how many movies, language, region, rate.
        now: the moment of observation; default: the clock.

    Raises:
        ConfigError: no key is set, or TMDB refuses it.
        SourceUnavailableError: TMDB gives no usable answers; what is loaded so far stays.
    """
    moment = now or datetime.now(UTC)
    with asyncio.Runner() as runner:
        client = TmdbClient(settings)
        try:
            reader = _Reader(client, settings, Intake(database, objects, SOURCE, progress, now=moment))
            return _ingest(database, reader, runner, settings.movies, moment)
        finally:
            runner.run(client.aclose())


def _ingest(
    database: Database, reader: "_Reader", runner: asyncio.Runner, wanted: int, moment: datetime
) -> IngestReport:
    runner.run(reader.prepare())
    ids = runner.run(reader.popular(wanted))
    with database.begin() as connection:
        old = item_repository.unchecked_since(connection, SOURCE, moment - RENEWED_AFTER)
    ids = list(dict.fromkeys([*ids, *old]))
    reader.intake.expect(len(ids))
    for first in range(0, len(ids), MOVIES_AT_A_TIME):
        movies, vanished = runner.run(reader.details(ids[first : first + MOVIES_AT_A_TIME]))
        reader.load(movies)
        with database.begin() as connection:
            item_repository.remove(connection, vanished, removed_at=moment)
    with database.begin() as connection:
        expired = item_repository.drop_facts(connection, SOURCE, moment - FACTS_KEPT)
        forgotten = item_repository.forget(connection, SOURCE, moment - FACTS_KEPT)
    get_logger().info(
        "tmdb.renewed", movies=len(ids), renewed=len(old), expired_facts=expired, forgotten=forgotten
    )
    return reader.intake.report()


class KeptAnswers:
    """
    Raw files of `ingest_tmdb`, loaded again without asking anybody.

    What TMDB answered with "no such movie" is in no file: that such a movie is gone, the next ingest says.

    Args:
        settings: the region; the language is the one that was asked in.
    """

    def __init__(self, database: Database, objects: ObjectStore, settings: TmdbSettings) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._genres: dict[int, str] = {}

    def read(self, path: Path, now: datetime, *, load: bool = True) -> IngestReport:
        """
        Take in a file; those of one run in their order, for the first one names the genres.

        Args:
            now: when its answers were given.
            load: whether movies are loaded, or genres learned alone.
        """
        intake = Intake(self._database, self._objects, SOURCE, now=now)
        movies: list[Answer] = []
        with path.open("rb") as file:
            for answer in map(msgspec.json.Decoder(Answer).decode, file):
                if answer.path == "/genre/movie/list":
                    self._genres = {one.id: one.name for one in decode(answer, Genres).genres}
                elif load and answer.path.removeprefix("/movie/").isdecimal():
                    movies.append(answer)
        if movies:
            language = str(movies[0].parameters["language"])
            settings = self._settings.model_copy(update={"language": language})
            loader = _Loader(settings, intake, self._genres)
            loader.load(loader.parsed(movies))
        return intake.report()


class _Loader:
    """Checks answers and turns them into rows."""

    def __init__(self, settings: TmdbSettings, intake: Intake, genres: dict[int, str] | None = None) -> None:
        self.intake = intake
        self._settings = settings
        self._genres = genres or {}

    def load(self, movies: Iterable[Movie]) -> None:
        """Store movies, their facts of today and their texts."""
        rows: list[dict[str, Any]] = []
        texts: list[dict[str, Any]] = []
        for movie in movies:
            rows.append(self._row(movie))
            texts += self._texts(movie)
        self.intake.items(rows, texts=texts)

    def parsed(self, answers: Iterable[Answer]) -> list[Movie]:
        """The movies that keep the contract."""
        movies = []
        for answer in answers:
            try:
                movies.append(msgspec.json.decode(answer.body, type=Movie))
            except msgspec.ValidationError as error:
                self.intake.reject([(f"{answer.path}: {error}", {"body": answer.body})])
        return movies

    def _row(self, movie: Movie) -> dict[str, Any]:
        directors = [person.name for person in movie.credits.crew if person.job == "Director"]
        cast = sorted(movie.credits.cast, key=lambda person: (person.order is None, person.order or 0))
        people = [*directors, *(person.name for person in cast[:CAST_KEPT])]
        return {
            "item_id": movie.id,
            "title": movie.title,
            "original_title": movie.original_title,
            "release_date": movie.release_date,
            "runtime_minutes": movie.runtime,
            "genres": [self._genres.get(genre.id, genre.name) for genre in movie.genres],
            "keywords": [keyword.name for keyword in movie.keywords.keywords],
            "people": list(dict.fromkeys(people)),
            "collection_id": movie.belongs_to_collection.id if movie.belongs_to_collection else None,
            "original_language": movie.original_language,
            "poster_path": movie.poster_path,
            "backdrop_path": movie.backdrop_path,
            "adult": movie.adult,
            "popularity": movie.popularity,
            "vote_average": movie.vote_average,
            "vote_count": movie.vote_count,
            "overview": movie.overview,
        }

    def _texts(self, movie: Movie) -> list[dict[str, Any]]:
        """One text per language: of several countries' the region's, else the first one with an overview."""
        language, _, country = self._settings.language.partition("-")
        region = self._settings.region or country
        ordered = sorted(
            movie.translations.translations, key=lambda one: (one.iso_3166_1 != region, not one.data.overview)
        )
        texts = {language: Text(movie.title, movie.overview, movie.tagline)}
        for one in ordered:
            texts.setdefault(one.iso_639_1, one.data)
        return [
            {
                "item_id": movie.id,
                "language": code,
                "title": text.title or movie.original_title
                if code == movie.original_language
                else text.title,
                "overview": text.overview,
                "tagline": text.tagline,
                "poster_path": movie.poster_path if code == language else None,
            }
            for code, text in texts.items()
        ]


class _Reader(_Loader):
    """Asks, keeps the raw answers, and loads them."""

    def __init__(self, client: TmdbClient, settings: TmdbSettings, intake: Intake) -> None:
        super().__init__(settings, intake)
        self._client = client

    async def prepare(self) -> None:
        """Read the genres, and the image configuration that posters are shown with."""
        configuration = await self._ask("/configuration")
        genres = await self._ask("/genre/movie/list", language=GENRE_LANGUAGE)
        self._keep([configuration, genres])
        decode(configuration, Configuration)
        self._genres = {genre.id: genre.name for genre in decode(genres, Genres).genres}

    async def popular(self, wanted: int) -> list[int]:
        """Distinct ids, most popular first; pages are read until there are enough of them."""
        ids: dict[int, None] = {}
        page, last = 1, 1
        while len(ids) < wanted and page <= last:
            missing_pages = -(-(wanted - len(ids)) // PAGE_SIZE)
            # The first answer tells how many pages there are.
            ahead = 1 if page == 1 else min(missing_pages, PAGES_AT_A_TIME, last - page + 1)
            answers = await asyncio.gather(*(self._page(number) for number in range(page, page + ahead)))
            self._keep(answers)
            for answer in answers:
                content = decode(answer, Page)
                last = min(content.total_pages, LAST_PAGE)
                ids.update(dict.fromkeys(self._listed(content)))
            page += ahead
        return list(ids)[:wanted]

    async def details(self, ids: Sequence[int]) -> tuple[list[Movie], list[int]]:
        """
        The movies of a few ids.

        Returns:
            Movies that keep the contract, and the ids that TMDB no longer knows.
        """
        asked = await asyncio.gather(
            *(_or_error(self._movie(item_id)) for item_id in ids),
        )
        answers = [answer for answer in asked if isinstance(answer, Answer)]
        failed = [(i, error) for i, error in zip(ids, asked, strict=True) if isinstance(error, Exception)]
        silent = [(i, error) for i, error in failed if isinstance(error, SourceUnavailableError)]
        if silent and not answers:
            raise silent[0][1]
        self._keep(answers)
        self.intake.reject((str(error), {"item_id": item_id}) for item_id, error in silent)
        return self.parsed(answers), [i for i, error in failed if isinstance(error, NotFoundError)]

    def _listed(self, page: Page) -> Iterable[int]:
        for entry in page.results:
            try:
                yield msgspec.json.decode(entry, type=Listed).id
            except msgspec.ValidationError as error:
                self.intake.reject([(f"/movie/popular: {error}", {"body": bytes(entry).decode()})])

    async def _page(self, number: int) -> Answer:
        region = {"region": self._settings.region} if self._settings.region else {}
        return await self._ask("/movie/popular", page=number, language=self._settings.language, **region)

    async def _movie(self, item_id: int) -> Answer:
        return await self._ask(
            f"/movie/{item_id}",
            language=self._settings.language,
            append_to_response="keywords,credits,translations",
        )

    async def _ask(self, path: str, **parameters: str | int) -> Answer:
        body = await self._client.get(path, parameters)
        return Answer(path, parameters, body.decode())

    def _keep(self, answers: Sequence[Answer]) -> None:
        if answers:
            encoder = msgspec.json.Encoder()
            self.intake.keep(b"".join(encoder.encode(answer) + b"\n" for answer in answers), ".jsonl")


async def _or_error(answer: Coroutine[Any, Any, Answer]) -> Answer | NotFoundError | SourceUnavailableError:
    try:
        return await answer
    except (NotFoundError, SourceUnavailableError) as error:
        return error
