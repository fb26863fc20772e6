"""docs/configuration.md is what the settings are, and each variable in it does something."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from marquee.cli import app
from marquee.config import Settings, load_settings

DOCS = Path(__file__).parents[2] / "docs"
VARIABLES = re.findall(
    r"^\| `(MARQUEE_\w+)` \|", (DOCS / "configuration.md").read_text("utf-8"), re.MULTILINE
)
WRITTEN = {
    "MARQUEE_HOME": "/elsewhere",
    "MARQUEE_HOST": "0.0.0.0",
    "MARQUEE_DATABASE__URL": "postgresql://user:word@host:5432/name",
    "MARQUEE_OBJECTS__URL": "s3://bucket/prefix",
    "MARQUEE_OBJECTS__ENDPOINT": "https://s3.example.org",
    "MARQUEE_OBJECTS__PATH_STYLE": "true",
    "MARQUEE_MLFLOW__TRACKING_URI": "sqlite:////elsewhere/mlflow.db",
    "MARQUEE_API__OPS_PORT": "9100",
    "MARQUEE_WORKER__OPS_PORT": "9101",
    "MARQUEE_API__EXPLORATION": "0.1",
    "MARQUEE_TMDB__BASE_URL": "http://localhost:1/3",
    "MARQUEE_TRACE__URL": "http://localhost:4318",
    "MARQUEE_OPS__SITE": "https://example.org",
    "MARQUEE_OPS__RUNBOOKS": "https://example.org/alerts",
    "MARQUEE_OPS__SMTP": "mail.example.org:587",
    "MARQUEE_SITE__API": "https://api.example.org",
    "MARQUEE_SITE__LANGUAGES": "ko,de",
    "MARQUEE_SITE__IMAGES": "https://images.example.org/t/p",
    "MARQUEE_SITE__MLFLOW_URL": "https://mlflow.example.org",
    "MARQUEE_SITE__AIRFLOW_URL": "https://airflow.example.org/home",
    "MARQUEE_SITE__GRAFANA_URL": "http://localhost:3000",
    "MARQUEE_SITE__ALERTMANAGER_URL": "http://localhost:9093",
}
"""Values for what is not just any text or number."""
OF_SECRETS = {
    "MARQUEE_DATABASE__PASSWORD_FILE": "MARQUEE_DATABASE__URL",
    "MARQUEE_TMDB__BEARER_TOKEN_FILE": "MARQUEE_TMDB__BEARER_TOKEN",
}
"""Files that are read into another setting; tests/config has what they do to it."""


def fields(model: type[BaseModel], prefix: str = "MARQUEE_") -> Iterator[tuple[str, FieldInfo]]:
    """Variable and field of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def other_value(variable: str, field: FieldInfo) -> str:
    """An allowed value that is not the default."""
    if variable in WRITTEN:
        return WRITTEN[variable]
    if get_origin(field.annotation) is Literal:
        return next(str(value) for value in get_args(field.annotation) if value != field.default)
    if isinstance(field.default, bool):
        return str(not field.default).lower()
    if isinstance(field.default, int):
        # Both are within the bounds of some settings only.
        for value in (field.default + 1, field.default - 1):
            if all(_holds(bound, value) for bound in field.metadata):
                return str(value)
    if isinstance(field.default, float):
        return str(field.default / 2)
    return "other-value"


def _holds(bound: Any, value: int) -> bool:
    return value >= getattr(bound, "ge", value) and value <= getattr(bound, "le", value)


def flat(settings: Settings) -> dict[str, str]:
    """Variable → value, secrets shown."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, bool):
            return str(value).lower()
        return value.get_secret_value() if hasattr(value, "get_secret_value") else value

    found = {}
    for variable, _ in fields(Settings):
        value: Any = settings
        for part in variable.removeprefix("MARQUEE_").lower().split("__"):
            value = getattr(value, part)
        found[variable] = str(plain(value))
    return found


def test_page_is_what_the_settings_are() -> None:
    checked = CliRunner().invoke(app, ["docs", "--check", str(DOCS)])
    assert checked.exit_code == 0, "stale: run `make docs`"


def test_stale_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "configuration.md").write_text("# Configuration\n", "utf-8")
    assert CliRunner().invoke(app, ["docs", "--check", str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(app, ["docs", "--write", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(app, ["docs", "--check", str(tmp_path)]).exit_code == 0


def test_page_names_every_setting_once() -> None:
    assert sorted(VARIABLES) == sorted(name for name, _ in fields(Settings))


@pytest.mark.parametrize(
    ("variable", "field"), [*fields(Settings)], ids=[name for name, _ in fields(Settings)]
)
def test_variable_is_described_and_changes_its_setting_only(
    variable: str, field: FieldInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert field.description
    assert field.description.endswith(".")
    monkeypatch.chdir(tmp_path)  # no .env of the person who runs the tests
    value = other_value(variable, field)
    if variable in OF_SECRETS:
        value = str(tmp_path / "secret")
        Path(value).write_text("word")
        monkeypatch.setenv("MARQUEE_DATABASE__URL", "postgresql://user@host/name")
    before = flat(load_settings())
    monkeypatch.setenv(variable, value)
    after = flat(load_settings())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {variable, OF_SECRETS.get(variable, variable)}
    assert after[variable] in (value, f"{value}.0")
