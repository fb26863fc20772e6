"""The way of every source into the tables: raw bytes kept, contract checked, rows upserted, all counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from marquee.data.schema import INTERACTIONS, ITEMS
from marquee.ingest.validate import ITEM_COLUMNS, check_interactions, check_items
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import interactions as interaction_repository
from marquee.store.repositories import items as item_repository
from marquee.store.repositories import outbox, quarantine
from marquee.telemetry import get_logger

__all__ = ["IngestReport", "Intake", "Progress"]

Progress = Callable[[int, int | None], None]
"""Called with the rows done so far and, where it is known, how many there are in all."""

TEXT_COLUMNS: Final = ("item_id", "language", "title", "overview", "tagline", "poster_path")
FACT_COLUMNS: Final = ("item_id", "observed_at", "popularity", "vote_average", "vote_count")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """
    What a run of a source did.

    Attributes:
        source: its name in the tables.
        read: rows of the input; each is counted in exactly one of the next four.
        inserted: rows that are new.
        duplicates: rows that were there already, unchanged.
        updated: rows that were there already and now hold newer facts.
        quarantined: rows rejected with a reason.
        raw_keys: objects that hold the input as it came.
    """

    source: str
    read: int
    inserted: int
    duplicates: int
    updated: int
    quarantined: int
    raw_keys: tuple[str, ...]


class Intake:
    """
    One run of one source.

    Every call commits what it was given, whole or not at all, so that a run that dies can be run again: what
    it had done is found to be there.

    Args:
        database: where rows go.
        objects: where raw bytes go.
        source: name of the source in the tables.
        progress: told after each call.
        now: the moment of the run; default: the clock.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        source: str,
        progress: Progress | None = None,
        *,
        now: datetime | None = None,
    ) -> None:
        self._database = database
        self._objects = objects
        self._source = source
        self._progress = progress
        self._now = now or datetime.now(UTC)
        self._expected: int | None = None
        self._inserted = self._duplicates = self._updated = self._quarantined = 0
        self._raw_keys: dict[str, None] = {}

    def expect(self, rows: int) -> None:
        """Say how many rows there will be, for the progress."""
        self._expected = rows

    def keep(self, raw: bytes | Path, suffix: str) -> None:
        """Put raw input into the object store, before anything is made of it."""
        prefix = f"raw/{self._source}/{self._now:%Y/%m/%d}"
        key = self._objects.put(prefix, raw, suffix).key
        self._raw_keys[key] = None
        with self._database.begin() as connection:
            outbox.add(connection, [key])

    def reject(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Quarantine input that is no row at all, each with its reason."""
        rejected = list(rows)
        if rejected:
            with self._database.begin() as connection:
                quarantine.append(connection, self._source, rejected)
            self._quarantined += len(rejected)
            self._tell()

    def interactions(self, raw: pl.DataFrame) -> pl.DataFrame:
        """
        Check and append interactions.

        Args:
            raw: see `check_interactions`. A row without `event_key` gets one made of its values, so that
                loading the same rows twice adds nothing.

        Returns:
            The rows that keep the contract.
        """
        checked = check_interactions(raw, now=self._now)
        good = checked.good.with_columns(pl.coalesce("event_key", _derived_key()))
        schema = INTERACTIONS.append(pa.field("event_key", pa.string())).append(
            pa.field("revokes", pa.string())
        )
        with self._database.begin() as connection:
            quarantine.append(connection, self._source, _with_reasons(checked.rejected))
            counts = interaction_repository.load_interactions(
                connection, good.to_arrow().select(schema.names).cast(schema), source=self._source
            )
        self._inserted += counts.inserted
        self._duplicates += counts.duplicates
        self._quarantined += len(checked.rejected)
        self._tell()
        return good

    def items(
        self,
        raw: pl.DataFrame | Sequence[Mapping[str, Any]],
        *,
        texts: Sequence[Mapping[str, Any]] = (),
        observed_at: datetime | None = None,
        fill_only: bool = False,
    ) -> None:
        """
        Check and upsert items, their changing facts, and their texts.

        Args:
            raw: see `check_items`. A row with a `language` is its text in that language too.
            texts: further texts, by `item_id` and `language`; those of rejected items are left out.
            observed_at: when the facts of rows without `observed_at` held; default: the day of the run, so
                that a second run on one day adds no facts.
            fill_only: leave items alone whose facts come from another source (they count as duplicates).
                Those that an editor has written are always left alone.
        """
        frame = raw if isinstance(raw, pl.DataFrame) else _frame(raw)
        if frame.is_empty():
            return
        checked = check_items(frame, now=self._now)
        day = observed_at or self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        good = checked.good.with_columns(pl.col("observed_at").fill_null(day))
        measured = pl.any_horizontal(pl.col("popularity", "vote_average", "vote_count").is_not_null())
        own = good.filter(pl.col("language").is_not_null()).select(TEXT_COLUMNS)
        further = pl.DataFrame(list(texts), schema={name: ITEM_COLUMNS[name] for name in TEXT_COLUMNS})
        all_texts = pl.concat([own, further.filter(pl.col("item_id").is_in(good["item_id"].implode()))])
        with self._database.begin() as connection:
            quarantine.append(connection, self._source, _with_reasons(checked.rejected))
            sources = item_repository.sources(connection, good["item_id"].to_list())
            edited = [item_id for item_id, source in sources.items() if source == item_repository.EDITOR]
            foreign = [item_id for item_id, source in sources.items() if source != self._source]
            mine = ~pl.col("item_id").is_in(foreign if fill_only else edited)
            kept = good.filter(mine)
            counts = item_repository.upsert_items(
                connection, kept.select(ITEMS.names).to_arrow().cast(ITEMS), source=self._source
            )
            # What an item is, its editor says; how popular it is on a day, any source may.
            observed = (kept if fill_only else good).filter(measured).select(FACT_COLUMNS)
            item_repository.append_facts(connection, observed.to_arrow())
            item_repository.upsert_texts(connection, all_texts.filter(mine).to_arrow())
        self._inserted += counts.inserted
        self._updated += counts.updated
        self._duplicates += len(good) - counts.inserted - counts.updated
        self._quarantined += len(checked.rejected)
        self._tell()

    def report(self) -> IngestReport:
        """What the run did."""
        report = IngestReport(
            source=self._source,
            read=self._done,
            inserted=self._inserted,
            duplicates=self._duplicates,
            updated=self._updated,
            quarantined=self._quarantined,
            raw_keys=tuple(self._raw_keys),
        )
        get_logger().info(
            "ingest.finished",
            source=report.source,
            read=report.read,
            inserted=report.inserted,
            duplicates=report.duplicates,
            updated=report.updated,
            quarantined=report.quarantined,
        )
        return report

    @property
    def _done(self) -> int:
        return self._inserted + self._duplicates + self._updated + self._quarantined

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._expected)


def _derived_key() -> pl.Expr:
    """The row's values as text; fractions in thousandths, whatever way a library writes floats."""
    values = [
        pl.col("user_id"),
        pl.col("item_id"),
        pl.col("event"),
        pl.col("occurred_at").dt.timestamp("us"),
        (pl.col("rating").cast(pl.Float64) * 1000).round().cast(pl.Int64),
        (pl.col("watch_seconds").cast(pl.Float64) * 1000).round().cast(pl.Int64),
    ]
    key = pl.concat_str([value.cast(pl.String).fill_null("") for value in values], separator=":")
    # Two undos in one moment may revoke different events.
    return pl.concat_str([key, pl.col("revokes")], separator=":", ignore_nulls=True)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as parsed by a source, with dates still as text."""
    present = dict.fromkeys(name for row in rows for name in row)
    schema = {
        name: pl.String() if ITEM_COLUMNS[name] == pl.Date else _wide(ITEM_COLUMNS[name]) for name in present
    }
    return pl.DataFrame(list(rows), schema=schema, strict=False)


def _wide(kind: pl.DataType) -> pl.DataType:
    """Room for any number, so that the contract and not the frame decides about it."""
    if kind == pl.Int32:
        return pl.Int64()
    return pl.Float64() if kind == pl.Float32 else kind


def _with_reasons(rejected: pl.DataFrame) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for row in rejected.iter_rows(named=True):
        yield row.pop("reason"), row
