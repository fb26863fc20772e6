"""
Every night: bring in data, train, let the gate decide, compute everyone's recommendations, back up.

A challenger that the gate refuses is no failure: the champion stays, and `gate_and_promote` says so.
"""

import os

from airflow.sdk import chain, dag

from marquee_tasks import EVERY_DAG, EVERY_TASK, MODEL, MarqueeRun, check_api_health, cron, minutes


@dag(
    **EVERY_DAG,
    schedule=cron(os.environ.get("MARQUEE_SCHEDULE__CRON", "0 0 * * *")),
    default_args=EVERY_TASK,
    params=MODEL,
    doc_md=__doc__,
)
def marquee_pipeline() -> None:
    """Each task is a run of Marquee, found there by its id."""
    chain(
        check_api_health(),
        MarqueeRun(
            task_id="prepare_data",
            endpoint="/run/prepare-data",
            expected={"items": int, "interactions": int},
            execution_timeout=minutes(30),
        ),
        MarqueeRun(
            task_id="train",
            endpoint="/run/train",
            payload={"model_name": "{{ params.model_name }}"},
            expected={"version": str},
            execution_timeout=minutes(240),
        ),
        MarqueeRun(
            task_id="gate_and_promote",
            endpoint="/v1/models/promote",
            payload={},
            expected={"verdict": ("passed", "refused")},
            execution_timeout=minutes(60),
        ),
        MarqueeRun(
            task_id="batch_inference",
            endpoint="/run/model-inference",
            expected={"k": int, "bundle": str},
            execution_timeout=minutes(60),
        ),
        MarqueeRun(
            task_id="backup",
            endpoint="/run/backup",
            expected={"backup": str},
            execution_timeout=minutes(120),
        ),
    )


marquee_pipeline()
