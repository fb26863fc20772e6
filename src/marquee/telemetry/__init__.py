"""Logs and metrics. `telemetry.metrics` is imported by its own name: commands start without it."""

from marquee.telemetry.logs import (
    begin_request,
    bound_everywhere,
    configure_logs,
    get_logger,
    log_request,
    note,
)

__all__ = ["begin_request", "bound_everywhere", "configure_logs", "get_logger", "log_request", "note"]
