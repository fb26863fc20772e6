"""
The contract of incoming rows: what may enter the tables, and why a row may not.

Checks are vectorised. They take a frame as a reader gives it (text from CSV and JSON Lines, types from
Parquet) and split it into typed rows that keep the contract and raw rows with the reason why they do not.
No row is lost: good + rejected = input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from marquee.data.schema import Event
from marquee.errors import SchemaError

__all__ = ["INTERACTION_COLUMNS", "ITEM_COLUMNS", "Checked", "check_interactions", "check_items"]

EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
CLOCK_SKEW: Final = timedelta(minutes=5)
LONGEST_WATCH_SECONDS: Final = 10_000_000  # 115 days: more is a broken counter, not a film
LONGEST_RUNTIME_MINUTES: Final = 100_000
LONGEST_KEY: Final = 500  # characters; an index entry of PostgreSQL has room for about 2,700 bytes
LIST_SEPARATOR: Final = "|"

_MOMENT: Final = pl.Datetime("us", "UTC")
_LIST: Final = pl.List(pl.String)

INTERACTION_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    "user_id": pl.Int64(),
    "item_id": pl.Int64(),
    "event": pl.String(),
    "rating": pl.Float32(),
    "watch_seconds": pl.Float32(),
    "occurred_at": _MOMENT,
    "event_key": pl.String(),
    "revokes": pl.String(),
}
ITEM_COLUMNS: Final[Mapping[str, pl.DataType]] = {
    "item_id": pl.Int64(),
    "title": pl.String(),
    "original_title": pl.String(),
    "release_date": pl.Date(),
    "runtime_minutes": pl.Int32(),
    "genres": _LIST,
    "keywords": _LIST,
    "people": _LIST,
    "collection_id": pl.Int64(),
    "original_language": pl.String(),
    "poster_path": pl.String(),
    "backdrop_path": pl.String(),
    "adult": pl.Boolean(),
    "popularity": pl.Float32(),
    "vote_average": pl.Float32(),
    "vote_count": pl.Int32(),
    "language": pl.String(),
    "overview": pl.String(),
    "tagline": pl.String(),
    "observed_at": _MOMENT,
}

Rule = tuple[pl.Expr, pl.Expr | str]  # (the row breaks it, why)


@dataclass(frozen=True, slots=True)
class Checked:
    """
    A frame split by its contract.

    Attributes:
        good: typed rows that keep it.
        rejected: raw rows that break it, plus a text column `reason` that names each broken rule.
    """

    good: pl.DataFrame
    rejected: pl.DataFrame


def check_interactions(raw: pl.DataFrame, *, now: datetime | None = None) -> Checked:
    """
    Split interactions into those that may be stored and those that may not.

    A missing `event` is `rate` where there is a rating and no watch time, else `watch`.

    Args:
        raw: columns of `INTERACTION_COLUMNS` in any order; absent ones count as empty, others are ignored.
        now: later events (but for a small clock skew) are rejected; default: the clock.

    Returns:
        `good` with exactly the columns of `INTERACTION_COLUMNS`.

    Raises:
        SchemaError: `user_id`, `item_id` or `occurred_at` is missing, or a column has a nested type.
    """
    _require(raw, ("user_id", "item_id", "occurred_at"))
    event = pl.col("new.event")
    rules: list[Rule] = [
        *_id_rules("user_id"),
        *_id_rules("item_id"),
        (~event.is_in([known.label for known in Event]), _say("event {} is unknown", "event")),
        *_range_rules("rating", 0, 10),
        ((event == Event.RATE.label) & pl.col("rating").is_null(), "event rate has no rating"),
        *_range_rules("watch_seconds", 0, LONGEST_WATCH_SECONDS),
        (pl.col("occurred_at").is_null(), "occurred_at is missing"),
        *_time_rules("occurred_at", now),
        *_text_rules("event_key", LONGEST_KEY),
        *_text_rules("revokes", LONGEST_KEY),
        (
            (event == Event.UNDO.label) & pl.col("revokes").is_null(),
            "event undo names no event_key in revokes",
        ),
        ((event != Event.UNDO.label) & pl.col("revokes").is_not_null(), "only event undo may have revokes"),
    ]
    given = pl.col("event").cast(pl.String).str.to_lowercase()
    starred = pl.col("rating").is_not_null() & pl.col("watch_seconds").is_null()
    guess = pl.when(starred).then(pl.lit(Event.RATE.label)).otherwise(pl.lit(Event.WATCH.label))
    return _split(raw, INTERACTION_COLUMNS, rules, {"event": pl.coalesce(given, guess)})


def check_items(raw: pl.DataFrame, *, now: datetime | None = None) -> Checked:
    """
    Split catalogue rows into those that may be stored and those that may not.

    Lists come as lists or as text joined by `|`. A runtime of 0 means unknown. Where an id repeats, the last
    good row is kept and the others are rejected.

    Args:
        raw: columns of `ITEM_COLUMNS` in any order; absent ones count as empty, others are ignored.
        now: later observations (but for a small clock skew) are rejected; default: the clock.

    Returns:
        `good` with exactly the columns of `ITEM_COLUMNS`.

    Raises:
        SchemaError: `item_id` or `title` is missing, or a column has a nested type.
    """
    _require(raw, ("item_id", "title"))
    rules: list[Rule] = [
        *_id_rules("item_id"),
        (pl.col("title").is_null(), "title is missing"),
        _unreadable("release_date", "a date like 1999-10-15"),
        *_range_rules("runtime_minutes", 0, LONGEST_RUNTIME_MINUTES),
        _unreadable("collection_id", "a 64-bit integer"),
        _unreadable("adult", "true or false"),
        *_range_rules("popularity", 0, 1e9),
        *_range_rules("vote_average", 0, 10),
        *_range_rules("vote_count", 0, 2**31 - 1),
        *_time_rules("observed_at", now),
        *(
            rule
            for name, kind in ITEM_COLUMNS.items()
            if kind == pl.String
            for rule in _text_rules(name, None)
        ),
        *(
            (
                pl.col(f"new.{name}").list.eval(_has_nul(pl.element())).list.any(),
                f"{name} has a NUL character",
            )
            for name, kind in ITEM_COLUMNS.items()
            if kind == _LIST
        ),
    ]
    checked = _split(raw, ITEM_COLUMNS, rules, unique="item_id")
    known = checked.good.with_columns(pl.col("runtime_minutes").replace(0, None))
    return Checked(known, checked.rejected)


def _require(raw: pl.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in raw.columns]
    if missing:
        raise SchemaError(
            f"The file lacks the columns {', '.join(missing)}; it has {', '.join(raw.columns) or 'none'}.",
            fix="Rename its columns as docs/data-formats.md says.",
        )


def _split(
    raw: pl.DataFrame,
    columns: Mapping[str, pl.DataType],
    rules: Sequence[Rule],
    derived: Mapping[str, pl.Expr] | None = None,
    *,
    unique: str | None = None,
) -> Checked:
    """Rules see each column twice: `x` as given (blank is null) and `new.x` typed (null if it cannot be)."""
    prepared = raw.select(_prepared(raw.schema, name, kind) for name, kind in columns.items())
    typed = prepared.select(
        *(
            (derived or {}).get(name, _convert(prepared.schema[name], name, kind)).alias(f"new.{name}")
            for name, kind in columns.items()
        )
    )
    reasons = [
        pl.when(broken.fill_null(False)).then(pl.lit(why) if isinstance(why, str) else why)
        for broken, why in rules
    ]
    both = prepared.hstack(typed).select(
        *typed.columns, pl.concat_str(reasons, separator="; ", ignore_nulls=True).alias("reason")
    )
    passed = pl.col("reason") == ""
    if unique is not None:
        repeated = passed & ~pl.when(passed).then(pl.col(f"new.{unique}")).is_last_distinct()
        why = pl.format("a later row has the same {} {}", pl.lit(unique), pl.col(f"new.{unique}"))
        both = both.with_columns(reason=pl.when(repeated).then(why).otherwise(pl.col("reason")))
    good = both.filter(passed).select(pl.col(f"new.{name}").alias(name) for name in columns)
    failed = both["reason"] != ""
    return Checked(good, raw.filter(failed).with_columns(both["reason"].filter(failed)))


def _prepared(schema: pl.Schema, name: str, kind: pl.DataType) -> pl.Expr:
    given = schema.get(name)
    if given is None:
        return pl.lit(None, pl.String).alias(name)
    if isinstance(given, (pl.Categorical, pl.Enum)):
        return pl.col(name).cast(pl.String)
    if given == pl.String:
        text = pl.col(name).str.strip_chars()
        return pl.when(text != "").then(text).alias(name)
    if given.is_nested() and not (isinstance(given, pl.List) and kind == _LIST):
        raise SchemaError(
            f"The column {name} is nested ({given}).", fix="Give plain values as docs/data-formats.md says."
        )
    return pl.col(name)


def _convert(given: pl.DataType, name: str, kind: pl.DataType) -> pl.Expr:
    """The column as `kind`, null where it cannot be one."""
    column = pl.col(name)
    if kind == pl.String:
        return column.cast(pl.String, strict=False)
    if kind == _MOMENT:
        return _as_moment(given, column)
    if kind == pl.Date:
        if given == pl.String:
            return column.str.to_date("%Y-%m-%d", strict=False)
        return column.cast(pl.Date, strict=False) if given.is_temporal() else pl.lit(None, pl.Date)
    if kind == _LIST:
        return column.cast(_LIST) if isinstance(given, pl.List) else _as_list(column)
    if kind == pl.Boolean:
        return (
            column.cast(pl.String)
            .str.to_lowercase()
            .replace_strict(
                {"true": True, "1": True, "false": False, "0": False}, default=None, return_dtype=pl.Boolean
            )
        )
    if kind == pl.Int64:
        return _as_integer(given, column)
    if kind == pl.Int32:
        return column.cast(pl.Float64, strict=False).round().cast(pl.Int32, strict=False)
    return column.cast(kind, strict=False)


def _as_integer(given: pl.DataType, column: pl.Expr) -> pl.Expr:
    if given == pl.Boolean or given.is_temporal():
        return pl.lit(None, pl.Int64)
    if given.is_float() or given.is_decimal():
        # Past 2**53 a float no longer holds every integer: such an id may already be another one.
        exact = (column == column.floor()) & (column.abs() <= 2**53)
        return pl.when(exact).then(column).cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)


def _as_list(column: pl.Expr) -> pl.Expr:
    parts = column.cast(pl.String).str.split(LIST_SEPARATOR)
    return parts.list.eval(pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != ""))


def _as_moment(given: pl.DataType, column: pl.Expr) -> pl.Expr:
    if isinstance(given, pl.Datetime):
        zoned = column if given.time_zone else column.dt.replace_time_zone("UTC")
        return zoned.cast(_MOMENT)
    if given == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if given.is_numeric():
        return _from_unix(column)
    if given != pl.String:
        return pl.lit(None, _MOMENT)
    return pl.coalesce(_from_unix(column.cast(pl.Float64, strict=False)), _from_iso(column))


def _from_unix(seconds: pl.Expr) -> pl.Expr:
    microseconds = (seconds.cast(pl.Float64) * 1e6).round()
    # Outside these years the cast would wrap around or have no name in ISO 8601.
    return (
        pl.when(seconds.abs() < 250_000_000_000).then(microseconds).cast(pl.Int64, strict=False).cast(_MOMENT)
    )


def _from_iso(column: pl.Expr) -> pl.Expr:
    """ISO 8601 with or without time, fraction and offset, mixed in one column; without an offset: UTC."""
    part = column.str.extract_groups(
        r"^(?<day>\d{4}-\d{2}-\d{2})(?:[Tt ](?<minute>\d{2}:\d{2})(?<second>:\d{2}(?:\.\d{1,9})?)?)?"
        r" ?(?<zone>[Zz]|[+-]\d{2}(?::?\d{2})?)?$"
    ).struct
    minute, second = part.field("minute").fill_null("00:00"), part.field("second").fill_null(":00")
    local = (part.field("day") + "T" + minute + second).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us"
    )
    digits = part.field("zone").str.replace_all(r"[:Zz]", "")
    hours = digits.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    offset = pl.duration(minutes=sign * (hours * 60 + minutes), time_unit="us")
    return (local - offset).dt.replace_time_zone("UTC").cast(_MOMENT)


def _say(template: str, name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.String, strict=False).str.slice(0, 60)
    return pl.format(template, value.str.replace_all("\x00", "\\0", literal=True))


def _unreadable(name: str, kind: str) -> Rule:
    broken = pl.col(name).is_not_null() & pl.col(f"new.{name}").is_null()
    return broken, _say(f"{name} {{}} is not {kind}", name)


def _id_rules(name: str) -> list[Rule]:
    return [
        (pl.col(name).is_null(), f"{name} is missing"),
        _unreadable(name, "a 64-bit integer"),
        (pl.col(f"new.{name}") <= 0, _say(f"{name} {{}} is not positive", name)),
    ]


def _range_rules(name: str, low: float, high: float) -> list[Rule]:
    value = pl.col(f"new.{name}")
    return [
        _unreadable(name, "a number"),
        (~value.is_between(low, high), _say(f"{name} {{}} is outside {low:g}–{high:g}", name)),
    ]


def _time_rules(name: str, now: datetime | None) -> list[Rule]:
    when = pl.col(f"new.{name}")
    latest = (now or datetime.now(UTC)) + CLOCK_SKEW
    return [
        _unreadable(name, "an ISO 8601 time or Unix seconds"),
        (when < EARLIEST, _say(f"{name} {{}} is before 1900", name)),
        (when > latest, _say(f"{name} {{}} is in the future", name)),
    ]


def _text_rules(name: str, longest: int | None) -> list[Rule]:
    value = pl.col(f"new.{name}")
    rules: list[Rule] = [(_has_nul(value), f"{name} has a NUL character")]
    if longest is not None:
        rules.append((value.str.len_chars() > longest, f"{name} is longer than {longest} characters"))
    return rules


def _has_nul(text: pl.Expr) -> pl.Expr:
    """PostgreSQL stores every character but this one."""
    return text.str.contains("\x00", literal=True)
