"""What was measured, as one page with plots that needs nothing else."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from marquee.evaluation.report import COLOURS, figure_of, page, svg_of
from marquee.store.repositories.monitoring import Alarm, Result

__all__ = ["write_report"]

Points = Mapping[str, Sequence[tuple[datetime, float]]]

QUALITY: Final = {
    "Outcomes": None,
    "Coverage, evenness and popularity": ("coverage", "gini", "popularity_share"),
    "Novelty (bits)": ("novelty_bits",),
    "Cold users and fallbacks": ("cold_users", "fallback"),
    "From an answer to what came of it (seconds)": ("label_delay_seconds",),
    "Quarantined rows": ("quarantine_share",),
    "Age of the newest event (seconds)": ("newest_event_seconds",),
    "Answers": ("answers",),
}
"""Plot → figures of quality in it; outcomes are by metric and arm."""


def write_report(results: Sequence[Result], alarms: Sequence[Alarm], path: Path) -> None:
    """
    Write the page.

    Args:
        results: oldest first.
        alarms: newest first.
        path: of the file; its folder is made when missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [_alarms(alarms), _drift(results[-1]) if results else "<p>Nothing was measured yet.</p>"]
    parts += [_plot(title, _points(results, names)) for title, names in QUALITY.items()]
    parts.append(_plot("Places that come out otherwise when computed again", _skew_points(results)))
    parts.append(_plot("Drift: population stability index", _drift_points(results), log=True))
    measured = (
        f"{results[0].measured_at:%Y-%m-%d} to {results[-1].measured_at:%Y-%m-%d %H:%M} UTC"
        if results
        else ""
    )
    told = f"<p>{len(results)} results, {measured}.</p>" if results else ""
    path.write_text(page("Monitoring", f"<h1>Monitoring</h1>\n{told}\n" + "\n".join(parts)), encoding="utf-8")


def _alarms(alarms: Sequence[Alarm]) -> str:
    if not alarms:
        return "<h2>Alarms</h2>\n<p>There were none.</p>"
    rows = [
        (
            alarm.kind,
            f"{alarm.raised_at:%Y-%m-%d %H:%M}",
            "open" if alarm.resolved_at is None else f"{alarm.resolved_at:%Y-%m-%d %H:%M}",
            alarm.evidence.get("resolved", ""),
            _told(alarm.evidence["detail"]),
        )
        for alarm in alarms
    ]
    return "<h2>Alarms</h2>\n" + _table(("Kind", "Raised", "Resolved", "Because", "Evidence"), rows)


def _drift(result: Result) -> str:
    rows = [
        (
            f"{each['kind']}: {each['feature']}",
            _number(each["psi"]),
            _number(each["p_value"]),
            " / ".join(_number(effect) for effect in each["effects"]),
            _number(each["threshold"]),
            "yes" if each["alarming"] else "no",
            _told(each["detail"]),
        )
        for each in result.values["drift"]
    ]
    if not rows:
        return "<h2>Drift</h2>\n<p>There is too little traffic to say anything.</p>"
    head = ("Signal", "PSI", "p", "Effect: newest / before", "Matters from", "Drift", "Detail")
    return "<h2>Drift</h2>\n" + _table(head, rows)


def _points(results: Sequence[Result], names: Sequence[str] | None) -> Points:
    made: dict[str, list[tuple[datetime, float]]] = {}
    for result in results:
        quality = result.values["quality"]
        if names is None:
            found = {f"{m} of {arm}": v for m, arms in quality["outcomes"].items() for arm, v in arms.items()}
        else:
            found = dict(_flat((name, quality[name]) for name in names))
        for name, value in found.items():
            if value is not None:
                made.setdefault(name.replace("_", " "), []).append((result.measured_at, value))
    return made


def _flat(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, float | None]]:
    """Figures by name; the parts of one that has parts by theirs."""
    for name, value in named:
        yield from value.items() if isinstance(value, Mapping) else ((name, value),)


def _skew_points(results: Sequence[Result]) -> Points:
    shares = [
        (result.measured_at, result.values["skew"]["share"]) for result in results if result.values["skew"]
    ]
    return {"skew": shares} if shares else {}


def _drift_points(results: Sequence[Result]) -> Points:
    made: dict[str, list[tuple[datetime, float]]] = {}
    for result in results:
        for each in result.values["drift"]:
            if each["psi"] is not None:
                made.setdefault(each["feature"], []).append((result.measured_at, max(each["psi"], 1e-4)))
    return made


def _plot(title: str, points: Points, *, log: bool = False) -> str:
    if not points:
        return ""
    figure, (axis,) = figure_of(10, 3.2)
    for number, (name, line) in enumerate(sorted(points.items())):
        axis.plot(*zip(*line, strict=True), label=name, color=COLOURS[number % len(COLOURS)], marker=".")
    if log:
        axis.set_yscale("log")
    axis.legend(fontsize=8)
    return f"<h2>{html.escape(title)}</h2>\n{svg_of(figure)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _told(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in detail.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " → ".join(map(_plain, value))
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
