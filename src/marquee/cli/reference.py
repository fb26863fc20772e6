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

_TITLES = {"api": "API", "mlflow": "MLflow", "objects": "Archive", "tmdb": "TMDB"}


def generated_pages() -> dict[str, str]:
    """File name → content."""
    return {"configuration.md": _configuration()}


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
