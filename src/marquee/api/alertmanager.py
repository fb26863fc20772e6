"""What Alertmanager says is wrong, as the API answers it."""

import asyncio
from datetime import datetime
from typing import Final, get_args
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from marquee.api.schemas.monitoring import AlertBody, Severity
from marquee.errors import SourceUnavailableError

__all__ = ["open_alerts"]

SECONDS: Final = 2.0
# What is silenced is known, and what is inhibited follows from something else.
WANTED: Final = {"active": "true", "silenced": "false", "inhibited": "false", "unprocessed": "false"}


class _Posted(BaseModel):
    """An alert as Alertmanager's API v2 gives it."""

    fingerprint: str
    starts_at: datetime = Field(alias="startsAt")
    labels: dict[str, str]
    annotations: dict[str, str]


_POSTED: Final = TypeAdapter(list[_Posted])


async def open_alerts(url: str, *, seconds: float = SECONDS) -> list[AlertBody]:
    """
    Ask for the alerts that are firing, neither silenced nor inhibited.

    Args:
        seconds: all that it may take.

    Raises:
        SourceUnavailableError: it does not answer, or is none.
    """
    # Neither the name and password in an address, nor what somebody else answers, is shown.
    where = f"Alertmanager at {urlsplit(url).hostname}"
    try:
        async with asyncio.timeout(seconds), httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
            answer = await client.get(f"{url.rstrip('/')}/api/v2/alerts", params=WANTED)
        answer.raise_for_status()
        return [_alert(posted) for posted in _POSTED.validate_json(answer.content)]
    except httpx.HTTPStatusError as error:
        raise SourceUnavailableError(f"{where} answered {error.response.status_code}.") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise SourceUnavailableError(f"{where} did not answer within {seconds:g} seconds.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnavailableError(f"{where} cannot be reached.") from error
    except ValidationError as error:
        raise SourceUnavailableError(f"{where} answered something else than alerts.") from error


def _alert(posted: _Posted) -> AlertBody:
    name = posted.labels.get("alertname", "")
    told = posted.labels.get("severity")
    # What nobody graded goes where warnings go, as in deploy/alertmanager/alertmanager.yml.
    severity = next((known for known in get_args(Severity) if known == told), "warning")
    return AlertBody(
        alert_id=posted.fingerprint,
        name=name,
        severity=severity,
        summary=posted.annotations.get("summary") or name,
        description=posted.annotations.get("description") or None,
        since=posted.starts_at,
        runbook_url=_safe(posted.annotations.get("runbook_url", "")),
        labels=posted.labels,
    )


def _safe(link: str) -> str | None:
    """A link that a page may show: whoever can post an alert must not run scripts in it."""
    if not link.isprintable() or "\\" in link or " " in link:
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    is_relative = not parts.scheme and not parts.netloc and bool(parts.path) and not link.startswith("//")
    return link if is_web or is_relative else None
