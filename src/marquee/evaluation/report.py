"""Figures of an evaluation for people, for programs and as a page with plots."""

import csv
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from marquee.evaluation.compare import Interval
from marquee.evaluation.results import ACCURACY, Evaluation, ModelResult
from marquee.evaluation.slices import MIN_JUDGED_QUERIES, SLICES

__all__ = ["COLOURS", "figure_of", "page", "svg_of", "to_dicts", "to_table", "write_report"]

Row = dict[str, Any]
Curves = Mapping[str, Sequence[Mapping[str, float]]]

LAST_NOTE: Final = "leave-last-out leaks across users in time: only for comparison with papers"
COLOURS: Final = ("#1f6f8b", "#c8553d", "#588157", "#8e6c8a", "#d9a441", "#4a4e69", "#3d9a8b", "#a44a3f")


def to_dicts(evaluation: Evaluation) -> list[Row]:
    """
    One JSON-able object per model, best first, then the reference rankings; NaN is None.

    Returns:
        Objects with `model, kind, protocol, n_queries, ndcg_at_10, ndcg_at_10_low, ndcg_at_10_high,
        recall_at_20, hr_at_10, mrr_at_10, coverage_at_10, novelty, diversity, content_diversity, calibration,
        slices, listed_new, fit_seconds, score_seconds`, and `share_of_best` where the best ranking is known.
    """
    return [_row(evaluation, result) for result in _ordered(evaluation)]


def to_table(evaluation: Evaluation, reference: str | None = None) -> Table:
    """
    The models, best first, with intervals and the paired difference to a reference.

    Args:
        evaluation: what to show.
        reference: the model to compare with; default: the best of them.

    Raises:
        ValueError: the reference was not evaluated.
    """
    reference = _reference(evaluation, reference)
    n_truth = sum(window.n_truth for window in evaluation.windows)
    n_cold = sum(window.n_cold for window in evaluation.windows)
    title = (
        f"{evaluation.protocol}, {evaluation.stage} windows: {evaluation.n_queries} queries, "
        f"{n_truth} ground-truth items, {n_cold} of them cold"
    )
    caption = f"95 % intervals by bootstrap over users; ≈ no significant difference to {escape(reference)}"
    if evaluation.protocol == "last":
        caption = f"{caption}; {LAST_NOTE}"
    table = Table(title=title, caption=caption)
    table.add_column("Model")
    best = _best(evaluation)
    names = ("NDCG@10 [95 %]", *(("of best",) if best else ()), "Recall@20", "HR@10", "MRR@10", "Cov.@10")
    for name in (*names, "Novelty", "Diversity", f"Δ NDCG@10 to {escape(reference)}", "Fit s", "Score s"):
        table.add_column(name, justify="right")
    for result in _ordered(evaluation):
        difference = evaluation.difference(result.name, reference) if reference else None
        share = (_share(result, best),) if best else ()
        table.add_row(
            escape(result.name),
            _interval(evaluation.interval(result.name)),
            *share,
            *(_number(result.mean(metric)) for metric in ACCURACY[1:]),
            _number(result.mean("coverage_at_10"), 4),
            _number(result.mean("novelty")),
            _number(result.mean("diversity")),
            "" if difference is None or result.name == reference else _difference(difference),
            _number(result.fit_seconds, 1) if result.kind == "model" else "",
            _number(result.score_seconds, 1) if result.kind == "model" else "",
            style=None if result.kind == "model" else "dim",
        )
    return table


def write_report(evaluation: Evaluation, directory: Path, reference: str | None = None) -> Path:
    """
    Write a page with plots and the tables behind them.

    Args:
        evaluation: what to show.
        directory: gets `index.html`, `models.csv`, `slices.csv`, `windows.csv`, `queries.csv`, `curves.csv`;
            made when missing.
        reference: the model to compare with; default: the best.

    Returns:
        The path of the page.

    Raises:
        ValueError: the reference was not evaluated.
    """
    reference = _reference(evaluation, reference)
    rows = to_dicts(evaluation)
    curves: Curves = {name: result.curve for name, result in evaluation.results.items() if result.curve}
    directory.mkdir(parents=True, exist_ok=True)
    overall = [{key: value for key, value in row.items() if key != "slices"} for row in rows]
    by_slice = [
        {"model": row["model"], "slice": part, **values}
        for row in rows
        for part, values in row["slices"].items()
    ]
    windows = [
        {
            "window": window.name,
            **{f: getattr(window, f) for f in ("n_fit", "n_items", "n_queries", "n_truth", "n_cold")},
        }
        for window in evaluation.windows
    ]
    epochs = [
        {"model": name, "epoch": epoch, **metrics}
        for name, steps in curves.items()
        for epoch, metrics in enumerate(steps, start=1)
    ]
    for name, table in (("models", overall), ("slices", by_slice), ("windows", windows), ("curves", epochs)):
        if table:
            _write_csv(directory / f"{name}.csv", table)
    _write_csv(directory / "queries.csv", _queries(evaluation))
    plots = [
        ("NDCG@10 with 95 % intervals", _plot_accuracy(rows)),
        ("Accuracy against coverage and novelty", _plot_trade(rows)),
    ]
    if by_slice:
        plots.append(("NDCG@10 per slice", _plot_slices(rows)))
    if epochs:
        plots.append(("Learning curves", _plot_curves(curves)))
    path = directory / "index.html"
    path.write_text(_page(evaluation, rows, reference, plots), encoding="utf-8")
    return path


def figure_of(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A plot in the style of the house, and its axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def svg_of(figure: Any) -> str:
    """A plot as SVG, to be put into a page."""
    import matplotlib as mpl

    out = io.StringIO()
    # A fixed salt and no date: the same figures give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "marquee", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def page(title: str, body: str) -> str:
    """A page that needs nothing else."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
div.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def _ordered(evaluation: Evaluation) -> list[ModelResult]:
    references = [result for result in evaluation.results.values() if result.kind != "model"]
    return [*evaluation.models(), *sorted(references, key=lambda result: -result.mean("ndcg_at_10"))]


def _reference(evaluation: Evaluation, reference: str | None) -> str:
    if reference is None:
        return next((result.name for result in evaluation.models()), next(iter(evaluation.results)))
    if reference not in evaluation.results:
        raise ValueError(f"{reference!r} was not evaluated; there are {', '.join(evaluation.results)}")
    return reference


def _best(evaluation: Evaluation) -> ModelResult | None:
    return next((r for r in evaluation.results.values() if r.kind == "known best"), None)


def _row(evaluation: Evaluation, result: ModelResult) -> Row:
    row: Row = {
        "model": result.name,
        "kind": result.kind,
        "protocol": evaluation.protocol,
        **_figures(evaluation, result, "all"),
        "slices": {
            part: {**_figures(evaluation, result, part), "judged": result.judged(part)}
            for part in SLICES
            if part in result.metrics
        },
        "listed_new": result.listed_new,
        "fit_seconds": result.fit_seconds,
        "score_seconds": result.score_seconds,
    }
    best = _best(evaluation)
    if best is not None:
        row["share_of_best"] = _finite(result.mean("ndcg_at_10") / best.mean("ndcg_at_10"))
    return row


def _figures(evaluation: Evaluation, result: ModelResult, part: str) -> Row:
    interval = evaluation.interval(result.name, within=part)
    figures: Row = {
        "n_queries": interval.n,
        "ndcg_at_10": _finite(interval.mean),
        "ndcg_at_10_low": _finite(interval.low),
        "ndcg_at_10_high": _finite(interval.high),
    }
    for metric in result.metrics[part]:
        figures.setdefault(metric, _finite(result.mean(metric, part)))
    if part in result.coverage:
        figures["coverage_at_10"] = _finite(result.mean("coverage_at_10", part))
    return figures


def _queries(evaluation: Evaluation) -> list[Row]:
    names = [window.name for window in evaluation.windows]
    values = {name: result.metrics["all"]["ndcg_at_10"] for name, result in evaluation.results.items()}
    return [
        {
            "window": names[window],
            "user_id": int(user),
            **{f"{name} ndcg_at_10": _finite(float(column[i])) for name, column in values.items()},
        }
        for i, (window, user) in enumerate(zip(evaluation.window_index, evaluation.user_ids, strict=True))
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _interval(interval: Interval) -> str:
    return f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]"


def _difference(interval: Interval) -> str:
    mark = " " if interval.significant else "≈"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] {mark}"


def _share(result: ModelResult, best: ModelResult) -> str:
    return f"{100 * result.mean('ndcg_at_10') / best.mean('ndcg_at_10'):.0f} %"


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _proper(rows: list[Row]) -> list[Row]:
    """The rows to draw: all but the oracle, whose ceiling would flatten the rest."""
    return [row for row in rows if row["kind"] != "ceiling" and row["ndcg_at_10"] is not None]


def _plot_accuracy(rows: list[Row]) -> str:
    shown = _proper(rows)[::-1]
    figure, (axis,) = figure_of(8, 1 + 0.4 * len(shown))
    for place, row in enumerate(shown):
        value = row["ndcg_at_10"]
        spread = [[value - row["ndcg_at_10_low"]], [row["ndcg_at_10_high"] - value]]
        colour = COLOURS[0] if row["kind"] == "model" else "#999999"
        axis.errorbar([value], [place], xerr=spread, fmt="o", color=colour, capsize=3)
    axis.set_yticks(range(len(shown)), [row["model"] for row in shown])
    axis.set_xlabel("NDCG@10")
    axis.set_xlim(left=0)
    return svg_of(figure)


def _plot_trade(rows: list[Row]) -> str:
    shown = _proper(rows)
    figure, axes = figure_of(10, 4.2, columns=2)
    for axis, measure, label in zip(
        axes, ("coverage_at_10", "novelty"), ("Coverage@10", "Novelty"), strict=True
    ):
        for number, row in enumerate(row for row in shown if row[measure] is not None):
            axis.scatter(row[measure], row["ndcg_at_10"], color=COLOURS[number % len(COLOURS)], zorder=3)
            place = (row[measure], row["ndcg_at_10"])
            axis.annotate(row["model"], place, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set_xlabel(label)
        axis.set_ylabel("NDCG@10")
    return svg_of(figure)


def _plot_slices(rows: list[Row]) -> str:
    shown = _proper(rows)
    parts = list(shown[0]["slices"]) if shown else []
    figure, (axis,) = figure_of(10, 4.2)
    width = 0.8 / max(len(shown), 1)
    for number, row in enumerate(shown):
        values = [row["slices"][part]["ndcg_at_10"] or 0.0 for part in parts]
        places = [place + number * width for place in range(len(parts))]
        axis.bar(places, values, width, label=row["model"], color=COLOURS[number % len(COLOURS)])
    labels = [_slice_label(part, shown[0]["slices"][part]) for part in parts]
    axis.set_xticks([place + 0.4 - width / 2 for place in range(len(parts))], labels, fontsize=8)
    axis.set_ylabel("NDCG@10")
    axis.legend(fontsize=8)
    return svg_of(figure)


def _plot_curves(curves: Curves) -> str:
    metrics = list(dict.fromkeys(key for steps in curves.values() for step in steps for key in step))
    figure, axes = figure_of(5 * len(metrics), 3.8, columns=len(metrics))
    for axis, metric in zip(axes, metrics, strict=True):
        for number, (name, steps) in enumerate(curves.items()):
            points = [(epoch, step[metric]) for epoch, step in enumerate(steps, start=1) if metric in step]
            if points:  # models report different things
                axis.plot(*zip(*points, strict=True), label=name, color=COLOURS[number % len(COLOURS)])
        axis.set_xlabel("Epoch")
        axis.set_ylabel(metric)
        axis.legend(fontsize=8)
    return svg_of(figure)


def _slice_label(part: str, figures: Row) -> str:
    few = "" if figures["judged"] else "\ntoo few to judge"
    return f"{part.replace('_', ' ')}\n({figures['n_queries']}){few}"


def _page(evaluation: Evaluation, rows: list[Row], reference: str, plots: list[tuple[str, str]]) -> str:
    head = ("Model", "NDCG@10 [95 %]", "Recall@20", "HR@10", "MRR@10", "Coverage@10", "Novelty", "Diversity")
    lines = []
    for row in rows:
        name = row["model"]
        difference = "" if name == reference else _difference(evaluation.difference(name, reference))
        cells = [
            html.escape(name),
            _interval(evaluation.interval(name)),
            *(_number(row[metric]) for metric in ACCURACY[1:]),
            _number(row["coverage_at_10"], 4),
            _number(row["novelty"]),
            _number(row["diversity"]),
            difference,
        ]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in (*head, f"Δ NDCG@10 to {reference}"))
    n_truth = sum(window.n_truth for window in evaluation.windows)
    n_cold = sum(window.n_cold for window in evaluation.windows)
    note = f"<p><strong>{html.escape(LAST_NOTE)}</strong></p>" if evaluation.protocol == "last" else ""
    drawn = "\n".join(f"<h2>{html.escape(title)}</h2>\n{svg}" for title, svg in plots)
    body = f"""<h1>Evaluation under <code>{evaluation.protocol}</code></h1>
<p>{evaluation.n_queries} queries of the {evaluation.stage} windows, {n_truth} ground-truth items, {n_cold} of
them cold. Intervals: bootstrap over users. ≈ marks a difference that is not significant. A slice with fewer
than {MIN_JUDGED_QUERIES} queries is reported, not judged. The figures are in the CSV files beside this
page.</p>
{note}
<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>
{"".join(lines)}
</tbody></table></div>
{drawn}"""
    return page(f"Evaluation: {evaluation.protocol}", body)
