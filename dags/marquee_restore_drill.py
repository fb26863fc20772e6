"""Every Sunday: restore the newest backup into a scratch database and verify it."""

from airflow.sdk import chain, dag

from marquee_tasks import EVERY_DAG, EVERY_TASK, MarqueeRun, check_api_health, cron, minutes


@dag(**EVERY_DAG, schedule=cron("0 5 * * 0"), default_args=EVERY_TASK, doc_md=__doc__)
def marquee_restore_drill() -> None:
    """A backup that nobody has restored is a hope."""
    chain(
        check_api_health(),
        MarqueeRun(
            task_id="restore_and_verify",
            endpoint="/run/drill",
            expected={"backup": str, "rows": int, "users": int},
            execution_timeout=minutes(120),
        ),
    )


marquee_restore_drill()
