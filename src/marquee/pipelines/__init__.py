"""
Pipelines: what composes the stages, by name.

A pipeline is a function of a `RunContext` that returns what it counted. It may be killed at any moment and
run again: what it does twice must come out as if done once.
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["PIPELINES"]

PIPELINES: Final[Mapping[str, str]] = {
    "prepare": "marquee.pipelines.prepare:prepare",
    "simulate": "marquee.pipelines.prepare:simulate",
    "features": "marquee.pipelines.features:features",
    "train": "marquee.pipelines.train:train",
    "promote": "marquee.pipelines.promote:promote",
    "mirror": "marquee.pipelines.promote:mirror",
    "infer": "marquee.pipelines.infer:infer",
    "pipeline": "marquee.pipelines.run:run_steps",
    "backup": "marquee.pipelines.backup:backup",
    "forget": "marquee.pipelines.forget:forget",
    "backfill": "marquee.pipelines.backfill:backfill",
    "drill": "marquee.pipelines.rehearsal:rehearse",
    "monitor": "marquee.pipelines.monitor:monitor",
}
"""Pipeline → `module:function`, imported where it is executed: a worker itself stays small."""
