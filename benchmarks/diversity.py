"""
What variety costs: accuracy and diversity of the lists at each setting of the dial.

    OMP_NUM_THREADS=1 python benchmarks/diversity.py [--model ease] [--data FOLDER] [--stage test]

Fits the model in each window of the `rolling` protocol on the small MovieLens ratings of the folder (default:
MARQUEE_REALDATA, else ../shared/data) and re-ranks its lists at each setting. Prints a Markdown table.
Without the ratings it says so and ends.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marquee.data import Catalog, Interactions
from marquee.data.split import split
from marquee.data.windows import Window
from marquee.evaluation.metrics import (
    calibration,
    content_vectors,
    coverage,
    genre_vectors,
    hits,
    intra_list_distance,
    ndcg,
)
from marquee.evaluation.ranking import Lists
from marquee.models import model_class
from marquee.recommend import RecommendationPipeline

REALDATA = Path(os.environ.get("MARQUEE_REALDATA", Path(__file__).parents[2] / "shared" / "data"))
DIALS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
K = 10
COLUMNS = ("NDCG@10", "coverage@10", "diversity (genres)", "diversity (content)", "calibration")


def load(folder: Path) -> tuple[Interactions, Catalog]:
    """The small rating set and the facts of its films."""
    ratings = pq.read_table(folder / "movielens-small.parquet")
    rows = Interactions.of(
        ratings["user_id"].to_numpy(),
        ratings["movie_id"].to_numpy(),
        ratings["timestamp"].to_numpy() * 1_000_000,
        ratings=ratings["rating"].to_numpy() * 2,
    )
    links = pq.read_table(folder / "movielens-movies.parquet", columns=["movie_id", "title", "tmdb_id"])
    links = links.filter(pc.is_in(links["movie_id"], pc.unique(ratings["movie_id"])))
    wanted = ["tmdb_id", "genres", "keywords", "director", "cast_top", "release_date", "original_language"]
    films = links.join(
        pq.read_table(folder / "tmdb-movies.parquet", columns=wanted), "tmdb_id"
    ).combine_chunks()
    return rows, Catalog(
        pa.table(
            {
                "item_id": films["movie_id"].cast(pa.int64()),
                "title": films["title"].cast(pa.string()),
                "genres": pc.split_pattern(films["genres"].cast(pa.string()), "|"),
                "keywords": pc.split_pattern(films["keywords"], "|"),
                "people": [
                    [name for names in both if names for name in names.split("|")]
                    for both in zip(films["director"].to_pylist(), films["cast_top"].to_pylist(), strict=True)
                ],
                "release_date": films["release_date"],
                "original_language": films["original_language"],
            }
        )
    )


def lists_of(window: Window, catalog: Catalog, model: str) -> dict[float, Lists]:
    """The lists of a window's queries at each setting, in the catalogue of its fit data."""
    known = np.flatnonzero(window.catalogue().index(catalog.item_ids) >= 0)
    fitted = model_class(model)().fit(window.fit, catalog)
    pipeline = RecommendationPipeline(fitted, Catalog(catalog.table.take(known)))
    return {dial: pipeline.recommend(window.histories, K, diversity=dial).item_ids for dial in DIALS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--model", default="ease")
    parser.add_argument("--data", type=Path, default=REALDATA)
    parser.add_argument("--stage", choices=("test", "tuning"), default="test")
    arguments = parser.parse_args()
    if not (arguments.data / "movielens-small.parquet").is_file():
        print("No ratings: give their folder by --data or MARQUEE_REALDATA.")
        return
    rows, catalog = load(arguments.data)
    genres, content = genre_vectors(catalog), content_vectors(catalog)
    found: dict[float, list[list[np.ndarray]]] = {dial: [] for dial in DIALS}
    for window in split(rows, "rolling"):
        if window.tuning != (arguments.stage == "tuning") or not len(window):
            continue
        for dial, lists in lists_of(window, catalog, arguments.model).items():
            columns = catalog.items.index(lists.ravel()).reshape(lists.shape)
            found[dial].append(
                [
                    ndcg(hits(lists, window.truth), window.truth.lengths),
                    np.array([coverage(lists, window.catalogue())]),
                    intra_list_distance(columns, genres, jaccard=True),
                    intra_list_distance(columns, content),
                    calibration(columns, window.histories, catalog.items, genres),
                ]
            )
    print(f"| dial | {' | '.join(COLUMNS)} | relative loss of NDCG |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    first = float("nan")
    for dial, windows in found.items():
        means = [float(np.nanmean(np.concatenate(parts))) for parts in zip(*windows, strict=True)]
        first = means[0] if dial == 0.0 else first
        print(f"| {dial:.1f} | {' | '.join(f'{mean:.4f}' for mean in means)} | {1 - means[0] / first:.1%} |")


if __name__ == "__main__":
    main()
