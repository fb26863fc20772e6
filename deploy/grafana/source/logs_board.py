"""Logs: how many of which level, what the errors say, and every line of one request or run."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import LOKI, RANGE, Panel, graph, log_lines, query, variable, workboard

STREAMS = '{host=~"$host", service=~"$service"}'
LEVELS = '{host=~"$host", service=~"$service", level=~"$level"}'
BAD = '{host=~"$host", service=~"$service", level=~"error|critical"}'


def logs() -> Dashboard:
    """Volumes, errors, lines."""
    return workboard(
        "marquee-logs",
        "Marquee · Logs",
        "Lines of all hosts. A request's or a run's id finds everything that was said about it.",
        variables=[
            variable("host", "Host", _values("host"), of=LOKI),
            variable("service", "Service", _values("service"), of=LOKI),
            variable("level", "Level", _values("level"), of=LOKI),
            build.TextBoxVariable("request_id").label("Request id").default_value(""),
            build.TextBoxVariable("run_id").label("Run id").default_value(""),
            build.TextBoxVariable("search").label("Text").default_value(""),
        ],
        sections=[("How many", _volumes()), ("Lines", _lines())],
        time_from="now-1h",
    )


def _values(label: str) -> dict[str, object]:
    return {"label": label, "refId": "LokiVariableQueryEditor-VariableQuery", "stream": "", "type": 1}


def _volumes() -> list[Panel]:
    return [
        graph(
            "Lines by level",
            "In the interval of a point.",
            query(f"sum by (level) (count_over_time({STREAMS}[$__auto]))", "{{level}}", of="loki"),
            stacked=True,
            span=12,
        ),
        graph(
            "Errors by service",
            "Lines of the levels error and critical: each raises the alert ImmediateError.",
            query(
                f"sum by (host, service) (count_over_time({BAD}[$__auto]))", "{{host}} {{service}}", of="loki"
            ),
            stacked=True,
            span=12,
        ),
        graph(
            "Lines and bytes read",
            "A second, by host, as Alloy counts them before Loki has them.",
            query(
                f'sum by (host, level) (rate(log_lines_total{{host=~"$host"}}[{RANGE}]))',
                "{{host}} {{level}}",
            ),
            query(f'sum(rate(log_bytes_total{{host=~"$host"}}[{RANGE}]))', "bytes"),
            unit="ops",
            right={"bytes": "Bps"},
            span=24,
        ),
    ]


def _lines() -> list[Panel]:
    return [
        log_lines("Errors", "Lines of the levels error and critical.", BAD, height=8),
        log_lines(
            "All lines",
            "Lines that match everything chosen above.",
            # Ids are in the lines of those who ship files as they are, and in the metadata of the others.
            f"{LEVELS} |~ `$search` | json | request_id=~`$request_id.*` | run_id=~`$run_id.*`"
            " | drop __error__, __error_details__",
        ),
    ]
