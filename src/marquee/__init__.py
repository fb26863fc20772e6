"""Marquee: movie recommendations from data to HTTP."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("marquee-recsys")
