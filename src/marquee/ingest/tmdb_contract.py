"""What is read of TMDB's answers, and the form in which they are kept."""

from typing import TypeVar

import msgspec

from marquee.errors import SourceUnavailableError

__all__ = ["Answer", "Configuration", "Genres", "Listed", "Movie", "Page", "Text", "decode"]

T = TypeVar("T")


class Named(msgspec.Struct):
    """A genre or keyword."""

    id: int
    name: str


class Person(msgspec.Struct):
    """One of the cast or crew."""

    name: str
    job: str | None = None
    order: int | None = None


class Credits(msgspec.Struct):
    """Who made a movie."""

    cast: list[Person] = []
    crew: list[Person] = []


class Keywords(msgspec.Struct):
    """What a movie is about."""

    keywords: list[Named] = []


class Text(msgspec.Struct):
    """Words in one language; empty where the original words serve."""

    title: str | None = None
    overview: str | None = None
    tagline: str | None = None


class Translation(msgspec.Struct):
    """Words in one language of one country."""

    iso_639_1: str
    iso_3166_1: str | None
    data: Text


class Translations(msgspec.Struct):
    """All translations of a movie."""

    translations: list[Translation] = []


class Collection(msgspec.Struct):
    """A series of movies."""

    id: int


class Movie(msgspec.Struct):
    """The contract of `/movie/{id}` with keywords, credits and translations appended."""

    id: int
    title: str
    original_title: str | None = None
    release_date: str | None = None
    runtime: int | None = None
    genres: list[Named] = []
    keywords: Keywords = msgspec.field(default_factory=Keywords)
    credits: Credits = msgspec.field(default_factory=Credits)
    translations: Translations = msgspec.field(default_factory=Translations)
    belongs_to_collection: Collection | None = None
    original_language: str | None = None
    poster_path: str | None = None
    backdrop_path: str | None = None
    adult: bool | None = None
    popularity: float | None = None
    vote_average: float | None = None
    vote_count: int | None = None
    overview: str | None = None
    tagline: str | None = None


class Page(msgspec.Struct):
    """The contract of a list of movies; each entry is checked on its own."""

    results: list[msgspec.Raw]
    total_pages: int


class Listed(msgspec.Struct):
    """What is read of an entry of a list."""

    id: int


class Genres(msgspec.Struct):
    """The contract of `/genre/movie/list`."""

    genres: list[Named]


class Images(msgspec.Struct):
    """Where images are."""

    secure_base_url: str
    poster_sizes: list[str]


class Configuration(msgspec.Struct):
    """The contract of `/configuration`."""

    images: Images


class Answer(msgspec.Struct):
    """One line of a raw file: the question, without the key, and the answer as it came."""

    path: str
    parameters: dict[str, str | int]
    body: str


def decode(answer: Answer, kind: type[T]) -> T:
    """An answer that everything else depends on."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.ValidationError as error:
        raise SourceUnavailableError(
            f"TMDB's answer for {answer.path} is not as documented: {error}.", fix="Try again later."
        ) from None
