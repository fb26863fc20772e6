"""Logs and metrics. `telemetry.metrics` is imported by its own name: commands start without it."""

from marquee.telemetry.logs import configure_logs, get_logger, log_request

__all__ = ["configure_logs", "get_logger", "log_request"]
