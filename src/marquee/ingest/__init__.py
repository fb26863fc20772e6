"""Sources of the catalogue and of events: each keeps its raw bytes, checks its rows and upserts them."""

from marquee.ingest.load import IngestReport, Progress
from marquee.ingest.movielens import ingest_movielens
from marquee.ingest.sample import ingest_sample
from marquee.ingest.tables import ingest_interactions, ingest_items
from marquee.ingest.tmdb import ingest_tmdb

__all__ = [
    "IngestReport",
    "Progress",
    "ingest_interactions",
    "ingest_items",
    "ingest_movielens",
    "ingest_sample",
    "ingest_tmdb",
]
