"""What is watched of models and data, beside what is measured of the service."""

from marquee.monitoring.gauges import publish

__all__ = ["publish"]
