"""
Prepare: a catalogue, an audience where there is none yet, and a snapshot of it all.

What is there is kept: own logs or MovieLens ratings are never mixed with virtual users.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from marquee.config import Settings
from marquee.data import Catalog, Interactions, Vocabulary
from marquee.ingest.sample import ingest_sample
from marquee.ingest.tmdb import ingest_tmdb
from marquee.pipelines.run import RunContext
from marquee.pipelines.snapshots import take_snapshot
from marquee.simulate import Audience, AudienceConfig
from marquee.store.postgres import Database
from marquee.store.repositories import interactions as interaction_rows
from marquee.store.repositories import items as item_rows

__all__ = ["prepare", "simulate", "virtual_audience"]

AUDIENCE_SOURCE = "audience"


def prepare(context: RunContext) -> dict[str, Any]:
    """
    Refresh the catalogue, simulate an audience if nobody has watched anything, take a snapshot.

    Where features are kept in Feast, they are renewed there.

    Parameters of the run: `source` — `sample`, `tmdb`, `none` (keep the catalogue as it is) or `auto`
    (TMDB with a key; else the sample, unless there is another catalogue already).
    """
    counts: dict[str, Any] = {}
    source = _source(context)
    if source == "tmdb":
        progress = _step(context, "ingest TMDB")
        report = ingest_tmdb(context.database, context.objects, context.settings.tmdb, progress=progress)
        counts |= {"items_read": report.read, "quarantined": report.quarantined}
    elif source == "sample":
        report = ingest_sample(context.database, context.objects, progress=_step(context, "ingest sample"))
        counts |= {"items_read": report.read, "quarantined": report.quarantined}
    with context.database.begin() as connection:
        someone_watched = bool(interaction_rows.count(connection))
    if not someone_watched:
        counts |= simulate(context)
    context.progress("take snapshot", 0, 1)
    began = datetime.now(UTC)
    snapshot = take_snapshot(context.database, context.objects)
    context.progress("take snapshot", 1, 1)
    if context.settings.features.store == "feast":
        from marquee.pipelines.features import keep_features

        counts |= keep_features(context, snapshot, began)
    return {
        **counts,
        "items": len(snapshot.catalog),
        "interactions": len(snapshot.interactions),
        "snapshot": snapshot.key,
    }


def simulate(context: RunContext) -> dict[str, Any]:
    """
    Let a virtual audience watch the catalogue; the same seed adds the same rows, so twice adds none.

    Parameters of the run: `users`, `days`, `seed`, over those of `MARQUEE_AUDIENCE__*`.
    """
    chosen = {
        name: int(context.parameters[name])
        for name in ("users", "days", "seed")
        if name in context.parameters
    }
    audience, _ = virtual_audience(context.settings, context.database, **chosen)
    context.progress("simulate viewing", 0, 1)
    made = audience.simulate().interactions
    with context.database.begin() as connection:
        loaded = interaction_rows.load_interactions(
            connection, _keyed(made), source=AUDIENCE_SOURCE, kind="virtual"
        )
    context.progress("simulate viewing", 1, 1)
    return {"users": len(Vocabulary.by_count(made.user_ids)), "simulated": loaded.inserted}


def virtual_audience(settings: Settings, database: Database, **chosen: int) -> tuple[Audience, Catalog]:
    """
    An audience over the catalogue of the database, which watches until today.

    Args:
        chosen: fields of `AudienceConfig` that win over `MARQUEE_AUDIENCE__*`.
    """
    wanted = settings.audience
    catalog = item_rows.load_catalog(database)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    facts = item_rows.facts_as_of(database, today.replace(hour=23))
    known = facts.filter(facts["popularity"].is_valid())
    popularity = np.ones(len(catalog), np.float32)
    index = catalog.items.index(known["item_id"].to_numpy())
    popularity[index[index >= 0]] = known["popularity"].to_numpy()[index >= 0]
    config = AudienceConfig(
        end=int(today.timestamp()) * 1_000_000,
        users=wanted.users,
        days=wanted.days,
        interactions_per_user=wanted.interactions_per_user,
        seed=wanted.seed,
    )
    changes: dict[str, Any] = dict(chosen)
    return Audience(catalog, popularity, replace(config, **changes)), catalog


def _keyed(made: Interactions) -> pa.Table:
    """The rows with keys of their own: the same audience again has the same keys."""
    prefix = made.digest()[:16]
    keys = pa.array([f"{prefix}:{row}" for row in range(len(made))])
    return made.to_arrow().append_column("event_key", keys)


def _step(context: RunContext, name: str) -> Callable[[int, int | None], None]:
    return lambda done, total: context.progress(name, done, total)


def _source(context: RunContext) -> str:
    wanted = str(context.parameters.get("source", "auto"))
    if wanted in {"sample", "tmdb", "none"}:
        return wanted
    if wanted != "auto":
        raise ValueError(f"source must be auto, sample, tmdb or none, not {wanted!r}")
    if context.settings.tmdb.configured:
        return "tmdb"
    with context.database.begin() as connection:
        sources = set(item_rows.count(connection))
    return "sample" if not sources or sources == {"sample"} else "none"
