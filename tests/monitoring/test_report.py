"""What the page of monitoring shows."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from marquee.monitoring.quality import Quality
from marquee.monitoring.report import QUALITY, write_report
from marquee.store.repositories.monitoring import Alarm, Result

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
QUALITY_OF_A_DAY = Quality(
    100, 0.5, 0.4, 0.3, 9.5, 0.1, 0.02, {"p50": 60.0, "p95": None}, {"hit_rate": {"champion": 0.2}}, 0.0, 30.0
)
SIGNAL: dict[str, Any] = {
    "kind": "taste", "feature": "genre", "psi": 0.31, "p_value": 1e-6, "effects": [0.31, 0.29],
    "threshold": 0.2, "alarming": True, "exceeded": [True, True], "detail": {"gained": "<b>Horror</b>"},
}  # fmt: skip


def result(hours: int, **values: Any) -> Result:
    said = {"quality": QUALITY_OF_A_DAY.as_json(), "drift": [], "skew": None, **values}
    return Result(measured_at=NOON + timedelta(hours=hours), seconds=1.0, values=said)


def test_page_has_a_plot_of_all_that_was_measured_and_the_alarms_with_their_evidence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = [result(0), result(1, drift=[SIGNAL], skew={"share": 0.01})]
    evidence = {"detail": SIGNAL["detail"]}
    alarm = Alarm(alarm_id=1, kind="taste", raised_at=NOON, resolved_at=None, evidence=evidence, run_id=None)
    write_report(results, [alarm], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") == len(QUALITY) + 2
    plotted = {name for names in QUALITY.values() for name in names or ("outcomes",)}
    assert plotted == set(QUALITY_OF_A_DAY.as_json())
    assert re.findall(r"<h2>(?:Alarms|Drift)</h2>", page) == ["<h2>Alarms</h2>", "<h2>Drift</h2>"]
    assert "0.31 / 0.29" in page
    assert "<b>Horror</b>" not in page
