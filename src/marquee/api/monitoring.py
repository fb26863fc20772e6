"""Drift, the quality of answers, and open alerts, for operators and for what trains anew upon drift."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.monitoring import (
    AlarmBody,
    AlertBody,
    Alerts,
    Drift,
    DriftFeature,
    DriftPoint,
    QualityBody,
    Severity,
)
from marquee.errors import SourceUnavailableError, StoreError, StoreUnavailableError
from marquee.store.repositories import monitoring
from marquee.store.repositories.monitoring import Alarm

__all__ = ["router"]

POINTS: Final = 120
PAST_ALARMS: Final = 50
MOST_ALERTS: Final = 200
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "info")

router = APIRouter(tags=["service"])


@router.get(
    "/v1/drift",
    summary="Drift, and the quality of answers",
    response_model=Drift,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def get_drift(
    services: ServicesDep,
    days: Annotated[int, Query(ge=1, le=400, description="How far back the history goes.")] = 7,
) -> Drift:
    """What monitoring has last measured, how that came about, and the alarms it has raised."""
    return await services.run_long(_drift, timedelta(days=days))


@router.get("/v1/alerts", summary="Open alerts", response_model=Alerts)
async def get_alerts(services: ServicesDep) -> Alerts:
    """Those of Alertmanager where it is known and answers, else open alarms of drift; never an error."""
    url = services.settings.site.alertmanager_url
    if url is None:
        return await _alarms_alone(services, None)
    from marquee.api.alertmanager import open_alerts  # serving starts without an HTTP client

    try:
        return _sorted("alertmanager", await open_alerts(url), None)
    except SourceUnavailableError as error:
        return await _alarms_alone(services, str(error))


def _drift(connection: Connection, span: timedelta) -> Drift:
    newest = monitoring.newest(connection)
    trend = monitoring.trend(connection, datetime.now(UTC) - span, every=span / POINTS)
    opened = monitoring.alarms(connection, open_only=True)
    known = {alarm.alarm_id for alarm in opened}
    past = (each for each in monitoring.alarms(connection, limit=PAST_ALARMS) if each.alarm_id not in known)
    alarms = sorted((*opened, *past), key=lambda alarm: (alarm.raised_at, alarm.alarm_id), reverse=True)
    return Drift(
        computed_at=None if newest is None else newest.measured_at,
        features=[] if newest is None else [_feature(each) for each in newest.values["drift"]],
        quality=None if newest is None else QualityBody.model_validate(newest.values["quality"]),
        history=[
            DriftPoint(
                at=result.measured_at,
                effects={
                    each["feature"]: each["effects"][0] for each in result.values["drift"] if each["effects"]
                },
                quality=QualityBody.model_validate(result.values["quality"]),
            )
            for result in trend
        ],
        alarms=[AlarmBody.model_validate(alarm, from_attributes=True) for alarm in alarms],
    )


def _feature(signal: dict[str, Any]) -> DriftFeature:
    if signal["alarming"]:
        status = "drift"
    elif any(signal["exceeded"]):
        status = "shifted"
    else:
        status = "stable" if signal["effects"] else "unknown"
    return DriftFeature.model_validate({**signal, "name": signal["feature"], "status": status})


async def _alarms_alone(services: Services, error: str | None) -> Alerts:
    try:
        opened = await services.run(monitoring.alarms, open_only=True)
    except StoreError as failure:
        opened = []
        error = f"{error} {failure}" if error else str(failure)
    return _sorted("drift", [_alert(alarm) for alarm in opened], error)


def _alert(alarm: Alarm) -> AlertBody:
    """An alarm as Prometheus says it (deploy/prometheus/rules/recommender.yml)."""
    return AlertBody(
        alert_id=f"drift-{alarm.alarm_id}",
        name="MarqueeDrift",
        severity="warning",
        summary=f"Drift: {alarm.kind}",
        description=None,
        since=alarm.raised_at,
        runbook_url="docs/runbooks/alerts/MarqueeDrift.md",
        labels={"alertname": "MarqueeDrift", "kind": alarm.kind, "severity": "warning"},
    )


def _sorted(source: Any, alerts: list[AlertBody], error: str | None) -> Alerts:
    alerts.sort(key=lambda alert: (SEVERITIES.index(alert.severity), alert.since, alert.alert_id))
    return Alerts(source=source, error=error, total=len(alerts), alerts=alerts[:MOST_ALERTS])
