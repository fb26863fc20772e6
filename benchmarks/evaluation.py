"""
How the recommenders compare: the tables and the plot of docs/recommenders.md.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--data FOLDER] [--models a,b,…] [--write docs]

Runs what `marquee evaluate --protocol rolling` runs, on the small MovieLens ratings of the folder (default:
the environment variable MARQUEE_REALDATA, else ../shared/data), with variants that the command line has no
names for, and prints Markdown; `--write` puts it between the markers of `recommenders.md` and draws
`images/rolling.svg`. Rankings are kept as `marquee evaluate` keeps them, so that a second run is quick.
Without the ratings it says so and ends.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from marquee.config import load_settings
from marquee.data import Catalog, Interactions
from marquee.evaluation import Evaluation, evaluate
from marquee.evaluation.compare import Interval
from marquee.evaluation.slices import CUTS
from marquee.ingest.files import read_files
from marquee.models import Recommender, model_class, model_names
from marquee.models.base import Progress

RATINGS, ITEMS, FACTS = "movielens-small.parquet", "movielens-movies.parquet", "tmdb-movies.parquet"
REFERENCE: Final = "ease"
USE_FACTS: Final = ("ease", "content")  # the two stages would take as long again as the whole table
VARIANTS: Final = (
    ("ease", "without facts", {"facts_weight": 0.0}),
    ("item_knn", "cosine", {"similarity": "cosine"}),
)
COLD: Final = (
    "two_stage",
    "linear_stack",
    "item_knn",
    "ease",
    "mlp_next",
)  # judged again with short histories
FAINT, STRONG = "#8a9ba8", "#1f6f8b"

Factories = Mapping[str, Callable[[], Recommender]]


def main() -> None:
    """Evaluate, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("MARQUEE_REALDATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the three Parquet files")
    parser.add_argument("--models", default="all", help="names joined by commas, or all")
    parser.add_argument("--write", type=Path, help="directory of the documentation to update")
    options = parser.parse_args()
    if not (options.data / RATINGS).is_file():
        print(f"not measured: no {RATINGS} in {options.data}")
        return
    names = [name for name in model_names() if options.models == "all" or name in options.models.split(",")]
    for name in [name for name in names if not model_class(name).trainable()]:
        print(f"not measured: {name} cannot be trained here", file=sys.stderr)
        names.remove(name)
    files = {"ratings": options.data / RATINGS, "items": options.data / ITEMS, "facts": options.data / FACTS}
    with_facts = read_files(**files)
    rows, catalog = with_facts.interactions, with_facts.catalog
    models = {
        **{name: _factory(name) for name in names},
        **{f"{name}, {how}": _factory(name, **changed) for name, how, changed in VARIANTS if name in names},
        **_decayed(rows, catalog, names),
    }
    found = _evaluate(models, rows, catalog)
    uses: list[str] = [name for name in USE_FACTS if name in names]
    own = read_files(files["ratings"], files["items"]).catalog
    less = {
        "MovieLens' own": _evaluate({name: _factory(name) for name in uses}, rows, own),
        "none": _evaluate({name: _factory(name) for name in uses if name != "content"}, rows, None),
    }
    blocks = {"rolling": _rolling(found), "facts": _facts(found, less, uses)}
    decayed = [name for name in models if name.startswith("popularity, half-life")]
    cold = [name for name in (*COLD, *decayed) if name in models]
    if decayed:
        short = _evaluate({name: models[name] for name in cold}, rows, catalog, slices=True)
        blocks["cold"] = _cold(short, decayed[0])
    print("\n\n".join(blocks.values()))
    if options.write is not None:
        page = options.write / "recommenders.md"
        text = page.read_text("utf-8")
        for name, block in blocks.items():
            text = _between(text, "table", name, block)
        for rank, result in enumerate(found.models(), start=1):
            if result.name in names:
                text = _between(text, "place", result.name, _place(found, result.name, rank))
        page.write_text(text, "utf-8")
        _draw(found, options.write / "images" / "rolling.svg")


def _factory(name: str, **changed: Any) -> Callable[[], Recommender]:
    kind = model_class(name)
    return lambda: kind(kind.Config.from_dict(changed))


def _decayed(rows: Interactions, catalog: Catalog | None, names: list[str]) -> Factories:
    """Popularity with the half-life that is best on the tuning windows."""
    if "popularity" not in names:
        return {}
    choices = model_class("popularity").Config.search_space()["half_life_days"].choices or ()
    decayed = {
        f"popularity, half-life {days} days": _factory("popularity", half_life_days=days)
        for days in choices
        if days is not None
    }
    best = _evaluate(decayed, rows, catalog, "tuning").models()[0].name
    return {best: decayed[best]}


def _evaluate(
    models: Factories,
    rows: Interactions,
    catalog: Catalog | None,
    stage: Literal["test", "tuning"] = "test",
    *,
    slices: bool = False,
) -> Evaluation:
    cache = load_settings().home / "evaluations"
    return evaluate(
        models, rows, catalog, "rolling", stage=stage, slices=slices, cache=cache, progress=_Dots()
    )


def _rolling(found: Evaluation) -> str:
    n_truth = sum(window.n_truth for window in found.windows)
    n_cold = sum(window.n_cold for window in found.windows)
    n_users = len(set(found.user_ids.tolist()))
    lines = [
        f"{found.n_queries} queries of {n_users} users in {len(found.windows)} test windows, {n_truth:,} "
        f"ground-truth items, {n_cold:,} of them not in the fit data; the oracle reaches "
        f"{found.results['oracle'].mean('ndcg_at_10'):.3f}, a random order "
        f"{found.results['random'].mean('ndcg_at_10'):.3f}.",
        "",
        f"| model | NDCG@10 [95 %] | to `{REFERENCE}`, paired [95 %] | Recall@20 | HR@10 | coverage@10 "
        "| novelty | fit s | ms/list |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in found.models():
        to_reference = "–"
        if REFERENCE in found.results and result.name != REFERENCE:
            to_reference = _signed(found.difference(result.name, REFERENCE))
        ndcg = found.interval(result.name)
        lines.append(
            f"| {_label(result.name)} | {ndcg.mean:.3f} [{ndcg.low:.3f}, {ndcg.high:.3f}] | {to_reference} "
            f"| {result.mean('recall_at_20'):.3f} | {result.mean('hr_at_10'):.3f} "
            f"| {result.mean('coverage_at_10'):.4f} | {result.mean('novelty'):.3f} "
            f"| {result.fit_seconds / len(found.windows):.2f} "
            f"| {1000 * result.score_seconds / found.n_queries:.1f} |"
        )
    return "\n".join(lines)


def _facts(found: Evaluation, less: Mapping[str, Evaluation], names: list[str]) -> str:
    """NDCG@10 with fewer facts, and the paired difference to having them all."""
    lines = [
        "| model | all facts | MovieLens titles, genres, years only | no facts |",
        "|---|---|---|---|",
    ]
    for name in names:
        cells = [f"{found.results[name].mean('ndcg_at_10'):.3f}"]
        for other in less.values():
            if name not in other.results:
                cells.append("–")
                continue
            values = other.results[name].metrics["all"]["ndcg_at_10"]
            change = found.bootstrap.difference(values, found.results[name].metrics["all"]["ndcg_at_10"])
            cells.append(f"{other.results[name].mean('ndcg_at_10'):.3f} ({_signed(change)})")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cold(found: Evaluation, reference: str) -> str:
    """NDCG@10 with histories cut to their last items, and the paired difference to decayed popularity."""
    lines = [
        f"| model | last item only | to {_label(reference)}, paired [95 %] | last three items "
        "| paired [95 %] |",
        "|---|---|---|---|---|",
    ]
    for result in sorted(found.models(), key=lambda result: -result.mean("ndcg_at_10", "last_3")):
        cells = []
        for cut in CUTS:
            change = "–"
            if result.name != reference:
                change = _signed(found.difference(result.name, reference, within=cut))
            cells += [f"{result.mean('ndcg_at_10', cut):.3f}", change]
        lines.append(f"| {_label(result.name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _label(name: str) -> str:
    model, comma, variant = name.partition(",")
    return f"`{model}`{comma}{variant}"


def _signed(difference: Interval) -> str:
    mark = "" if difference.significant else " ≈"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]{mark}"


def _place(found: Evaluation, name: str, rank: int) -> str:
    ndcg = found.interval(name)
    return (
        f"*NDCG@10 {ndcg.mean:.3f} [{ndcg.low:.3f}, {ndcg.high:.3f}], "
        f"place {rank} of {len(found.models())} in the table.*"
    )


def _between(text: str, kind: str, name: str, block: str) -> str:
    """The text with what stands between the markers of `name` replaced."""
    pattern = re.compile(rf"(<!-- {kind}:{name} -->\n).*?(<!-- /{kind} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"recommenders.md lacks the marker <!-- {kind}:{name} -->")
    return pattern.sub(lambda match: f"{match[1]}{block}\n{match[2]}", text)


def _draw(found: Evaluation, path: Path) -> None:
    """NDCG@10 with intervals, best on top; the same figures give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "marquee", "svg.fonttype": "path", "font.size": 10})
    from matplotlib import pyplot as plt

    models = found.models()[::-1]
    intervals = [found.interval(result.name) for result in models]
    figure, axes = plt.subplots(figsize=(7.6, 0.9 + 0.32 * len(models)), layout="constrained")
    for row, (result, interval) in enumerate(zip(models, intervals, strict=True)):
        colour = FAINT if result.name.startswith("popularity") else STRONG
        axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2.5, alpha=0.45)
        axes.plot(interval.mean, row, "o", color=colour, markersize=7)
        axes.annotate(
            f"{interval.mean:.3f}", (interval.high, row), (6, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(models)), [result.name for result in models])
    axes.set_xlabel("NDCG@10 with 95 % interval, rolling protocol, MovieLens latest-small")
    axes.set_xlim(0, max(interval.high for interval in intervals) * 1.12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


class _Dots(Progress):
    """One dot per model and window."""

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        print(".", end="", flush=True, file=sys.stderr)


if __name__ == "__main__":
    main()
