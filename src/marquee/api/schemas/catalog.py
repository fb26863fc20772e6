"""Bodies of the catalogue: what it shows, and what editors write."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from marquee.api.schemas.service import shown

__all__ = [
    "EditorialChoice",
    "Item",
    "ItemFields",
    "ItemPage",
    "ItemText",
    "ItemsWritten",
    "NewItem",
    "NewItems",
]

Plain = StringConstraints(strip_whitespace=True, pattern=r"^[^\x00]*$")
Title = Annotated[str, Plain, StringConstraints(min_length=1, max_length=1_000)]
Name = Annotated[str, Plain, StringConstraints(min_length=1, max_length=500)]
Prose = Annotated[str, Plain, StringConstraints(min_length=1, max_length=20_000)]
Place = Annotated[
    str,
    Plain,
    StringConstraints(min_length=1, max_length=2_000),
    Field(description="TMDB's path of an image, or a whole `https://` address."),
]
Names = Annotated[list[Name], Field(max_length=500)]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
ItemId = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
Boost = Annotated[
    float,
    AfterValidator(
        lambda boost: round(boost, 4)
    ),  # the column is a REAL, which refuses what is next to nothing
    Field(
        ge=-9,
        le=11,
        description="1: as the model says. Each 1 more lifts it by one standard deviation of the scores of a "
        "user, each 1 less sinks it so.",
    ),
]

INCEPTION: dict[str, Any] = {
    "item_id": 27205,
    "title": "인셉션",
    "original_title": "Inception",
    "release_date": "2010-07-15",
    "year": 2010,
    "runtime_minutes": 148,
    "genres": ["Action", "Science Fiction"],
    "original_language": "en",
    "overview": "타인의 꿈에 들어가 생각을 훔치는 이야기.",
    "poster_url": "https://image.tmdb.org/t/p/w500/edv5CZvWj09upOsy2Y6IwDhK8bt.jpg",
    "backdrop_url": None,
    "popularity": 83.9,
    "vote_average": 8.4,
}
DETAILS: dict[str, Any] = {
    **INCEPTION,
    "tagline": None,
    "keywords": ["dream", "heist"],
    "people": ["Christopher Nolan", "Leonardo DiCaprio"],
    "collection_id": None,
    "adult": False,
    "vote_count": 36000,
    "observed_at": "2026-11-22T00:00:00Z",
    "languages": ["en", "ko"],
    "pin": False,
    "block": False,
    "boost": 1.0,
    "source": "tmdb",
    "updated_at": "2026-11-22T00:10:00Z",
}
OWN: dict[str, Any] = {
    "item_id": 9000001,
    "title": "Evening at the Harbour",
    "release_date": "2026-10-01",
    "runtime_minutes": 93,
    "genres": ["Drama"],
    "people": ["Min Seo"],
    "original_language": "ko",
    "overview": "Two strangers miss the last ferry.",
    "popularity": 3.5,
    "texts": {"ko": {"title": "항구의 저녁", "overview": "막배를 놓친 두 사람."}},
}


class ItemFields(BaseModel):
    """What a list shows of a film."""

    model_config = shown(INCEPTION)

    item_id: int
    title: str = Field(description="In the language asked for, where there is such a text.")
    original_title: str | None
    release_date: date | None
    year: int | None
    runtime_minutes: int | None
    genres: list[str]
    original_language: str | None
    overview: str | None
    poster_url: str | None
    backdrop_url: str | None
    popularity: float | None
    vote_average: float | None


class ItemPage(BaseModel):
    """A page of films."""

    model_config = shown({"items": [INCEPTION], "next_cursor": "dGhlIG5leHQgcGFnZQ"})

    items: list[ItemFields]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Item(ItemFields):
    """All that is known of a film."""

    model_config = shown(DETAILS)

    tagline: str | None
    keywords: list[str]
    people: list[str] = Field(description="Directors first, then the cast.")
    collection_id: int | None
    adult: bool
    vote_count: int | None
    observed_at: datetime | None = Field(description="When popularity and votes were so.")
    languages: list[str] = Field(description="Languages of its texts.")
    pin: bool = Field(description="First wherever it qualifies.")
    block: bool = Field(description="Never recommended, listed or found.")
    boost: Boost
    source: str = Field(description="Where the facts come from; `editor`: PUT here.")
    updated_at: datetime


class ItemText(BaseModel):
    """The words of a film in one language."""

    model_config = shown({"title": "항구의 저녁", "overview": "막배를 놓친 두 사람."}) | ConfigDict(
        extra="forbid"
    )

    title: Title | None = None
    overview: Prose | None = None
    tagline: Prose | None = None
    poster_path: Place | None = None


class NewItem(BaseModel):
    """A film as an editor writes it; what is left out is unknown."""

    model_config = shown(OWN) | ConfigDict(extra="forbid", allow_inf_nan=False)

    item_id: ItemId
    title: Title
    original_title: Title | None = None
    release_date: date | None = None
    runtime_minutes: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    genres: Names = []
    keywords: Names = []
    people: Annotated[Names, Field(description="Directors first, then the cast.")] = []
    collection_id: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)] | None = None
    original_language: LanguageTag | None = None
    overview: Prose | None = None
    poster_path: Place | None = None
    backdrop_path: Place | None = None
    adult: bool = False
    popularity: Annotated[float, Field(ge=0, le=1e9)] | None = None
    vote_average: Annotated[float, Field(ge=0, le=10)] | None = None
    vote_count: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = None
    texts: Annotated[
        dict[LanguageTag, ItemText],
        Field(max_length=100, description="Words by language; those of other languages stay as they are."),
    ] = {}


class NewItems(BaseModel):
    """Films to write: each is inserted, or replaced whole; of a repeated one the last counts."""

    model_config = shown({"items": [OWN]}) | ConfigDict(extra="forbid")

    items: Annotated[list[NewItem], Field(min_length=1, max_length=1_000)]


class ItemsWritten(BaseModel):
    """What became of the films that were sent."""

    model_config = shown({"inserted": 1, "updated": 0, "unchanged": 0})

    inserted: int
    updated: int
    unchanged: int = Field(description="Those whose texts in other languages alone differ are among them.")


class EditorialChoice(BaseModel):
    """How a film is recommended; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"pin": True}, {"block": True}, {"boost": 1.5}], "minProperties": 1},
    )

    pin: bool | None = Field(None, description="First wherever it qualifies.")
    block: bool | None = Field(None, description="Never recommended, listed or found.")
    boost: Boost | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "EditorialChoice":
        if not self.chosen():
            raise ValueError("Send pin, block or boost.")
        return self

    def chosen(self) -> dict[str, Any]:
        """What was sent."""
        return self.model_dump(exclude_none=True)
