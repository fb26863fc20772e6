"""Monitor: what came in is added up, the answers are measured, drift raises alarms."""

from datetime import UTC, datetime
from typing import Any

from marquee.monitoring.watch import look
from marquee.pipelines.run import RunContext

__all__ = ["monitor"]


def monitor(context: RunContext) -> dict[str, Any]:
    """
    Look once.

    Parameters of the run: `now` — the moment, ISO 8601; default: the clock's.
    """
    given = context.parameters.get("now")
    now = datetime.now(UTC) if given is None else datetime.fromisoformat(str(given)).astimezone(UTC)
    context.progress("look", 0, 1)
    found = look(context.settings, context.database, context.objects, now)
    context.progress("look", 1, 1)
    return {
        "events": found.collected.events,
        "answers": found.collected.answers,
        "seconds": round(found.seconds, 3),
        "raised": list(found.raised),
        "resolved": list(found.resolved),
        "open": [alarm.kind for alarm in found.alarms],
    }
