"""
Train anew once Marquee has raised an alarm of drift; each alarm does so once.

The asset `marquee_drift` has an event for each alarm that `GET /v1/drift` shows. Set
`MARQUEE_MONITOR__RETRAIN=false` where Airflow does this: Marquee's own worker would do it, too.
"""

from airflow.sdk import Asset, AssetWatcher, chain, dag

from marquee_tasks import EVERY_DAG, EVERY_TASK, MODEL, DriftTrigger, MarqueeRun, check_api_health, minutes

DRIFT = Asset("marquee_drift", watchers=[AssetWatcher(name="marquee_drift", trigger=DriftTrigger())])


@dag(
    **EVERY_DAG,
    schedule=[DRIFT],
    default_args=EVERY_TASK,
    params=MODEL,
    doc_md=__doc__,
)
def marquee_retrain_on_drift() -> None:
    """The night's pipeline without what drift has nothing to do with."""
    chain(
        check_api_health(),
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
        ),
        MarqueeRun(
            task_id="batch_inference",
            endpoint="/run/model-inference",
            expected={"k": int, "bundle": str},
        ),
    )


marquee_retrain_on_drift()
