"""`marquee monitor` as people run it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marquee.cli import app
from marquee.config import Settings

NOW = "2026-11-02T00:00:00+00:00"


def run(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, ["monitor", *arguments], catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    return ended.stdout


def test_look_is_printed_for_people_and_for_programs(home: Settings) -> None:
    shown = run("run", "--now", NOW)
    assert "Answers of the last day" in shown
    assert "No open alarms." in shown
    made = json.loads(run("run", "--now", NOW, "--json"))
    assert made["measured_at"].startswith("2026-11-02")
    assert made["alarms"] == []
    assert set(made) >= {"quality", "drift", "skew", "seconds", "run_id"}


def test_moment_without_a_time_zone_is_refused(home: Settings) -> None:
    run("run", "--now", "2026-11-02T00:00:00", code=2)


def test_report_is_one_page_with_plots(home: Settings, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run("run", "--now", NOW)
    page = tmp_path / "new" / "page.html"
    run("report", "--output", str(page))
    content = page.read_text("utf-8")
    assert "<h1>Monitoring</h1>" in content
    assert "<svg" in content
    assert "src=" not in content


def test_report_of_nothing_says_so(home: Settings, tmp_path: Path) -> None:
    run("report", "--output", str(tmp_path / "page.html"))
    assert "Nothing was measured yet." in (tmp_path / "page.html").read_text("utf-8")
