"""
Load the files that came in between two moments again, and compute everyone's recommendations anew.

What is there already adds nothing: a backfill may be repeated and may overlap another. Moments are ISO dates
or times, UTC where they name no zone.
"""

from airflow.sdk import Param, chain, dag

from marquee_tasks import EVERY_DAG, EVERY_TASK, MarqueeRun, check_api_health, minutes

MOMENT = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?$"


@dag(
    **EVERY_DAG,
    schedule=None,
    default_args=EVERY_TASK,
    params={
        "from": Param(type="string", pattern=MOMENT, description="From this moment on."),
        "to": Param(type="string", pattern=MOMENT, description="Until this moment."),
    },
    doc_md=__doc__,
)
def marquee_backfill() -> None:
    """Started by hand, with `from` and `to`."""
    chain(
        check_api_health(),
        MarqueeRun(
            task_id="backfill",
            endpoint="/run/backfill",
            payload={"from": "{{ params['from'] }}", "to": "{{ params['to'] }}"},
            expected={"snapshot": str},
            execution_timeout=minutes(240),
        ),
        MarqueeRun(
            task_id="batch_inference",
            endpoint="/run/model-inference",
            expected={"k": int, "bundle": str},
        ),
    )


marquee_backfill()
