"""docs/metrics.md is what the metrics are, each follows the rules, and somebody looks at each."""

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from marquee.telemetry.metrics import every

REPOSITORY = Path(__file__).parents[2]
LISTED = re.findall(
    r"^\| `(marquee_\w+)` \|", (REPOSITORY / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE
)
UNITS = {
    "answers", "bits", "bytes", "connections", "events", "info", "objects", "ratio", "requests", "rows",
    "seconds", "total",
}  # fmt: skip
STATES = {
    "marquee_database_up",
    "marquee_http_requests_in_progress",
    "marquee_listener_connected",
    "marquee_runs_running",
    "marquee_runs_waiting",
}
"""What has no unit: a number of what the name says, or 1 and 0."""
LOOKED_AT = ("dashboards", "rules")


def name_of(metric: MetricWrapperBase) -> str:
    about = next(iter(metric.describe()))
    return f"{about.name}_total" if about.type == "counter" else about.name


METRICS = {name_of(metric): metric for metric in every()}


def test_page_lists_every_metric_once():
    """That it says what the code says is tested with the other generated pages."""
    assert sorted(LISTED) == sorted(METRICS)


@pytest.mark.parametrize(("name", "metric"), METRICS.items(), ids=METRICS)
def test_metric_follows_the_rules(name, metric):
    about = next(iter(metric.describe()))
    assert re.fullmatch(r"marquee(_[a-z]+){2,}", name)
    assert name in STATES or name.rpartition("_")[2] in UNITS
    assert (about.type == "counter") is name.endswith("_total")
    assert about.documentation.endswith(".")
    assert not [label for label in metric._labelnames if re.search(r"(^|_)(id|user|item|key|path)$", label)]


def test_every_metric_is_on_a_dashboard_or_in_a_rule():
    files = [
        path
        for folder in LOOKED_AT
        for path in (REPOSITORY / "deploy").glob(f"*/{folder}/**/*")
        if path.suffix in {".json", ".yml"}
    ]
    text = "\n".join(path.read_text("utf-8") for path in files)
    used = set(re.findall(r"\bmarquee_\w+", text))
    seen = used | {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert sorted(METRICS.keys() - seen) == []
