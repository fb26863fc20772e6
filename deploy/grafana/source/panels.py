"""
The words that the dashboards are written in: queries, panels, rows, and what all dashboards share.

Everything is of `grafana-foundation-sdk`, whose builders say each option in a line of its own. What is the
same everywhere (legends, tooltips, colours of thresholds, ids of queries) is said here once.
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import common as shape
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import logs as logs_panel
from grafana_foundation_sdk.builders import loki, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as option
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

__all__ = [
    "LOKI",
    "PROMETHEUS",
    "Panel",
    "Query",
    "ages",
    "graph",
    "log_lines",
    "mean",
    "number",
    "quantiles",
    "query",
    "ratio",
    "rows",
    "states",
    "variable",
    "workboard",
]

PROMETHEUS: Final = model.DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI: Final = model.DataSourceRef(type_val="loki", uid="loki")
TAG: Final = "marquee"
RANGE: Final = "$__rate_interval"
COLOURS: Final = ("green", "yellow", "red")

Panel = Builder[model.Panel]
Query = prometheus.Dataquery | loki.Dataquery


def query(
    expression: str, legend: str = "__auto", *, of: Literal["prometheus", "loki"] = "prometheus"
) -> Query:
    """One query of a panel over the time shown; its reference is given by the panel."""
    if of == "loki":
        return loki.Dataquery().expr(expression).legend_format(legend).query_type("range").datasource(LOKI)
    return (
        prometheus.Dataquery()
        .expr(expression)
        .legend_format(legend)
        .range()
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .datasource(PROMETHEUS)
    )


def quantiles(
    metric: str,
    where: str = "",
    *,
    of: Sequence[float] = (0.5, 0.95, 0.99),
    by: str = "",
    legend: str = "",
    window: str = RANGE,
) -> tuple[Query, ...]:
    """
    Percentiles of a histogram.

    Args:
        by: a label besides `le` that is kept; it is then the legend.
        legend: instead of `p95` and the like.
    """
    kept = f"le, {by}" if by else "le"
    buckets = f"sum by ({kept}) (rate({metric}_bucket{where}[{window}]))"
    return tuple(
        query(f"histogram_quantile({q}, {buckets})", legend or (f"{{{{{by}}}}}" if by else f"p{q * 100:g}"))
        for q in of
    )


def mean(metric: str, where: str = "", *, by: str = "") -> str:
    """What a histogram has observed, on average."""
    kept = f" by ({by})" if by else ""
    return (
        f"sum{kept} (rate({metric}_sum{where}[{RANGE}])) / sum{kept} (rate({metric}_count{where}[{RANGE}]))"
    )


def ratio(part: str, whole: str) -> str:
    """A share that is 0, not nothing, where the part has never been counted."""
    return f"(({part}) or vector(0)) / ({whole})"


def ages(metric: str, *, by: str = "") -> str:
    """For how long something has been, of the moments that a gauge names; 0 means never."""
    kept = f"max by ({by}) ({metric})" if by else f"max({metric})"
    return f"time() - ({kept} > 0)"


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    span: int = 8,
    stacked: bool = False,
    lines_at: Sequence[float] = (),
    highest: float | None = None,
    right: Mapping[str, str] | None = None,
    calcs: Sequence[str] = ("mean", "max"),
) -> Panel:
    """
    Lines over time.

    Args:
        lines_at: thresholds, drawn dashed: yellow, then red; a single one is red.
        highest: of the axis, where the values have a bound.
        right: legend → unit of the series that have their axis on the right.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(8)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(option.VisibilityMode.NEVER)
        .datasource(_source(queries))
        .legend(
            shape.VizLegendOptions()
            .display_mode(option.LegendDisplayMode.TABLE)
            .placement(option.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(list(calcs))
        )
        .tooltip(
            shape.VizTooltipOptions().mode(option.TooltipDisplayMode.MULTI).sort(option.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel.stacking(shape.StackingConfig().mode(option.StackingMode.NORMAL).group("A"))
    if highest is not None:
        panel.max(highest)
    for name, unit_there in (right or {}).items():
        panel.override_by_name(
            name,
            [
                model.DynamicConfigValue(id_val="unit", value=unit_there),
                model.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
            ],
        )
    if lines_at:
        panel.thresholds(_thresholds(lines_at))
        panel.thresholds_style(
            shape.GraphThresholdsStyleConfig().mode(option.GraphThresholdsStyleMode.DASHED)
        )
    return panel.targets(_named(queries))


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    span: int = 4,
    limits: Sequence[float] = (),
    falling: bool = False,
    decimals: int | None = None,
    names: bool = False,
) -> Panel:
    """
    The newest value, large.

    Args:
        limits: from which value it is yellow and red (a single one: red).
        falling: the other way round: it is bad below the limits.
        names: show the name of the series, not its value.
    """
    mode = option.BigValueTextMode.NAME if names else option.BigValueTextMode.AUTO
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(4)
        .unit(unit)
        .no_value("–")
        .datasource(_source(queries))
        .text_mode(mode)
        .graph_mode(option.BigValueGraphMode.NONE if names else option.BigValueGraphMode.AREA)
        .color_mode(option.BigValueColorMode.VALUE if limits else option.BigValueColorMode.NONE)
        .reduce_options(shape.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(limits, falling=falling))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel.targets(_named(queries))


def states(title: str, description: str, *queries: Query, span: int = 12, good: str, bad: str) -> Panel:
    """What is 1 while all is well and 0 else, as bars over time."""
    mapping = model.ValueMap(
        options={
            "0": model.ValueMappingResult(text=bad, color="red", index=0),
            "1": model.ValueMappingResult(text=good, color="green", index=1),
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(8)
        .datasource(_source(queries))
        .mappings([mapping])
        .show_value(option.VisibilityMode.NEVER)
        .row_height(0.8)
        .merge_values(True)
        .legend(
            shape.VizLegendOptions()
            .display_mode(option.LegendDisplayMode.LIST)
            .placement(option.LegendPlacement.BOTTOM)
            .show_legend(False)
            .calcs([])
        )
        .tooltip(shape.VizTooltipOptions().mode(option.TooltipDisplayMode.SINGLE).sort(option.SortOrder.NONE))
        .targets(_named(queries))
    )


def rows(
    title: str, description: str, *columns: tuple[str, str], by: str, unit: str = "short", span: int = 12
) -> Panel:
    """
    A table: one row for each value of a label, one column for each query.

    Args:
        columns: heading and query of each.
        by: the label.
    """
    queries = [
        prometheus.Dataquery()
        .expr(expression)
        .format(prometheus_model.PromQueryFormat.TABLE)
        .instant()
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .datasource(PROMETHEUS)
        for _, expression in columns
    ]
    # A single query's values are called `Value`, those of several `Value #A` and so on.
    names = [f"Value #{letter}" for letter in ascii_uppercase] if len(columns) > 1 else ["Value"]
    renamed = dict(zip(names, (heading for heading, _ in columns), strict=False))
    return (
        table.Panel()
        .title(title)
        .description(description)
        .span(span)
        .height(8)
        .unit(unit)
        .datasource(PROMETHEUS)
        .show_header(True)
        .cell_height(option.TableCellHeight.SM)
        .with_transformation(
            model.DataTransformerConfig(id_val="joinByField", options={"byField": by, "mode": "outer"})
        )
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True, **{f"Time {n + 1}": True for n in range(len(columns))}},
                    "renameByName": renamed,
                },
            )
        )
        .targets(_named(queries))
    )


def log_lines(title: str, description: str, expression: str, *, height: int = 16) -> Panel:
    """Lines of logs, newest first."""
    return (
        logs_panel.Panel()
        .title(title)
        .description(description)
        .span(24)
        .height(height)
        .datasource(LOKI)
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(True)
        .prettify_log_message(False)
        .enable_log_details(True)
        .sort_order(option.LogsSortOrder.DESCENDING)
        .dedup_strategy(option.LogsDedupStrategy.NONE)
        .targets(_named([query(expression, of="loki")]))
    )


def variable(
    name: str, label: str, query: str | dict[str, object], *, of: model.DataSourceRef = PROMETHEUS
) -> Any:
    """A choice at the top of a dashboard, of one, some or all values."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(of)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def workboard(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Any],
    sections: Sequence[tuple[str, Sequence[Panel]]],
    time_from: str = "now-6h",
) -> model.Dashboard:
    """A dashboard with what all of them have: links to the others, marks of deployments and alerts."""
    board = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(time_from, "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(list(variables))
        .links(
            [
                build.DashboardLink("Dashboards")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(False)
                .include_vars(True)
                .keep_time(True)
            ]
        )
    )
    for heading, panels in sections:
        board.with_row(build.Row(heading))
        for panel in panels:
            board.with_panel(panel)
    built = board.build()
    built.annotations.list_val = [
        # The value is the time: however coarse the step, the mark is where the deployment was.
        _Mark(
            "Deployments",
            "max by (slot) (marquee_state_deployed_timestamp_seconds > 0) * 1000",
            colour="blue",
            title="{{slot}} deployed",
            at_value=True,
        ),
        _Mark(
            "Alerts",
            'max by (alertname, severity) (ALERTS{alertstate="firing"})',
            colour="red",
            title="{{alertname}}",
            at_value=False,
        ),
    ]
    for count, each in enumerate(built.panels or [], 1):
        each.id_val = count
    return built


class _Mark(model.AnnotationQuery):
    """Marks on all graphs, by a query; the SDK knows only a part of what Prometheus's have."""

    def __init__(self, name: str, expr: str, *, colour: str, title: str, at_value: bool) -> None:
        super().__init__(name=name, datasource=PROMETHEUS, icon_color=colour, expr=expr)
        self._title = title
        self._at_value = at_value

    def to_json(self) -> dict[str, object]:
        own = {
            "titleFormat": self._title,
            "useValueForTime": "on" if self._at_value else False,
            "step": "60s",
        }
        return {**super().to_json(), **own}


def _named(queries: Sequence[Query]) -> list[Any]:
    for letter, each in zip(ascii_uppercase, queries, strict=False):
        each.ref_id(letter)
    return list(queries)


def _source(queries: Sequence[Query]) -> model.DataSourceRef:
    return LOKI if isinstance(queries[0], loki.Dataquery) else PROMETHEUS


def _thresholds(limits: Sequence[float], *, falling: bool = False) -> build.ThresholdsConfig:
    colours = COLOURS if len(limits) > 1 else (COLOURS[0], COLOURS[-1])
    values = sorted(limits)
    steps = zip([None, *values], reversed(colours[: len(values) + 1]) if falling else colours, strict=False)
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )
