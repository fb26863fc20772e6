"""Pages of the documentation that are made from the code, so that they cannot lie."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from marquee.config import ApiSettings, Settings

__all__ = ["generated_pages", "openapi_document"]

_TOGETHER = {
    "livesum": ", sum of the processes",
    "livemax": ", greatest of the processes",
    "livemin": ", least of the processes",
}
_ON_METRICS = (
    "The API serves its metrics at `/metrics`, on its port or on `MARQUEE_API__OPS_PORT`: those of all its "
    "processes in one. The worker serves its own on `MARQUEE_WORKER__OPS_PORT`; `marquee up` takes the port "
    "behind the API's for that. Both add the usual `process_*` of Prometheus; of several API processes these "
    "have the label `pid`, and gauges say below how they are put together.",
    "",
    "Names are `marquee_<subsystem>_<what>_<unit>`. A histogram `x` is read as `x_bucket`, `x_sum` and "
    "`x_count`. A moment is in seconds since 1970: its age is `time() - x`. What never was is `NaN` or has "
    "no series, and compares with nothing. No label is the id of a user, a film, a key or a request.",
)
_TITLES = {"api": "API", "mlflow": "MLflow", "objects": "Archive", "tmdb": "TMDB"}


def generated_pages() -> dict[str, str]:
    """File name → content."""
    return {"configuration.md": _configuration(), "metrics.md": _metrics()}


def openapi_document() -> str:
    """The API's description of itself, the same on every machine."""
    from marquee.api.app import create_app

    settings = Settings().model_copy(update={"api": ApiSettings(), "operator_key_file": None})
    return json.dumps(create_app(settings).openapi(), indent=1)


def _configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "<!-- Made from src/marquee/config by `make docs`; do not edit. -->",
        "",
        "Every setting is an environment variable, read also from a `.env` file in the working directory. "
        "Two underscores lead into a group. A wrong value stops the start with its name and what it must be.",
        "",
    ]
    lines += _table("General", "", _rows("MARQUEE_", Settings, groups=False))
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            rows = _rows(f"MARQUEE_{name.upper()}__", group, groups=True)
            lines += _table(_TITLES.get(name, name.capitalize()), inspect.getdoc(group) or "", rows)
    return "\n".join(lines)


def _metrics() -> str:
    from marquee.telemetry.metrics import every, is_of_worker

    lines = [
        "# Metrics",
        "",
        "<!-- Made from src/marquee/telemetry/metrics.py by `make docs`; do not edit. -->",
        "",
        *_ON_METRICS,
        "",
    ]
    groups: dict[tuple[bool, str], list[str]] = {}
    for metric in every():
        together = _TOGETHER.get(getattr(metric, "_multiprocess_mode", ""), "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
        about = next(iter(metric.describe()))
        name = f"{about.name}_total" if about.type == "counter" else about.name
        key = (is_of_worker(name), name.split("_")[1])
        row = f"| `{name}` | {about.type}{together} | {labels} | {about.documentation} |"
        groups.setdefault(key, []).append(row)
    for of_worker, server in ((False, "API"), (True, "worker")):
        lines += [f"## Of the {server}", ""]
        for (where, subsystem), rows in groups.items():
            if where is of_worker:
                lines += [f"### {subsystem}", "", "| name | type | labels | meaning |", "|---|---|---|---|"]
                lines += [*rows, ""]
    return "\n".join(lines)


def _table(title: str, text: str, rows: Iterator[tuple[str, str, str]]) -> list[str]:
    lines = [
        f"## {title}",
        "",
        *([text, ""] if text else []),
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows), ""]


def _rows(prefix: str, model: type[BaseModel], *, groups: bool) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if nested and not groups:
            continue
        meaning = (field.description or "").replace("|", "\\|")
        if get_origin(field.annotation) is Literal:
            meaning += f" One of {', '.join(f'`{value}`' for value in get_args(field.annotation))}."
        yield prefix + name.upper(), _default(field), meaning


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None or value == () or isinstance(value, SecretStr):
        return "–"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"
