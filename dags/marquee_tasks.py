"""
Airflow's side of Marquee's pipelines: an operator, its trigger, a sensor, and what every task has.

A run that does not end within seconds is waited for in the triggerer, which looks after hundreds of them at
once, and not in a worker: no slot is held, and no process is started for each look. What the environment may
tell a DAG is read here.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import httpx
from airflow.sdk import BaseHook, BaseOperator, Connection, Context, CronTriggerTimetable, Param, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from marquee_client import Api, BusyError, ClientError, Job, RefusedError

__all__ = [
    "EVERY_DAG",
    "EVERY_TASK",
    "MODEL",
    "DriftTrigger",
    "MarqueeRun",
    "RunTrigger",
    "check_api_health",
    "cron",
]

CONNECTION = "marquee_api"
GRACE = timedelta(minutes=1)
"""So much later Airflow ends a wait that did not end itself."""


def _number(name: str, default: float) -> float:
    return float(os.environ.get(f"MARQUEE_AIRFLOW_{name}", default))


def minutes(number: float) -> timedelta:
    """How long a task may take, to be stretched for slow machines by MARQUEE_AIRFLOW_TIMEOUT_SCALE."""
    return timedelta(minutes=number * _number("TIMEOUT_SCALE", 1))


def cron(expression: str) -> CronTriggerTimetable:
    """A schedule in the zone of MARQUEE_SCHEDULE__ZONE; the first run is the next one, not one that was."""
    return CronTriggerTimetable(expression, timezone=os.environ.get("MARQUEE_SCHEDULE__ZONE", "Asia/Seoul"))


def tell(context: Context) -> None:
    """Tell the alert webhook that a task has failed for good; that address is a secret, too."""
    address = os.environ.get("MARQUEE_ALERT_WEBHOOK")
    if not address:
        return
    instance = context["ti"]
    text = (
        f"FAILED {instance.dag_id}.{instance.task_id} in {instance.run_id}\n"
        f"{context.get('exception')}\n{getattr(instance, 'log_url', '')}"
    )
    _hush()
    try:
        httpx.post(address, json={"text": text}, timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        logging.getLogger(__name__).warning("The alert webhook was not reached: %s", type(error).__name__)


EVERY_DAG: Mapping[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["marquee"],
}
EVERY_TASK: Mapping[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=_number("RETRY_SECONDS", 30)),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": minutes(60),
    "on_failure_callback": tell,
}
MODEL: Mapping[str, Any] = {
    "model_name": Param(
        os.environ.get("MARQUEE_SCHEDULE__MODEL", "ease"), type="string", description="What to train."
    )
}
"""The parameter of DAGs that train."""


@task.sensor(mode="reschedule", poke_interval=10, timeout=_number("HEALTH_SECONDS", 600))
def check_api_health() -> bool:
    """Wait for an API that answers; one that stays down fails the run, without retries."""
    return _api(BaseHook.get_connection(CONNECTION)).is_well()


class MarqueeRun(BaseOperator):
    """
    Carry out a pipeline of Marquee.

    Args:
        endpoint, payload, expected: as of a `Job`.
    """

    template_fields: Sequence[str] = ("endpoint", "payload")
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        endpoint: str,
        payload: Mapping[str, Any] | None = None,
        expected: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.payload = payload
        self.expected = dict(expected or {})

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the run, or join it, and wait for it, elsewhere if it takes longer than a moment."""
        job, api = self._job(), _api(BaseHook.get_connection(CONNECTION))
        try:
            run_id = api.submit(job, job.key(*_inputs(context)))
            self.log.info("The run is %s.", run_id)
            run = api.ended_soon(run_id, seconds=_number("PATIENCE_SECONDS", 5))
        except BusyError as busy:
            self.log.info("Waiting for another run first. %s", busy)
            self._wait(context, busy.run_id, "submit_again")
        except RefusedError as error:
            raise AirflowFailException(str(error)) from None
        except ClientError as error:
            raise AirflowException(str(error)) from None
        if run is None:
            self._wait(context, run_id, "finish")
        return self.finish(context, {"run": run})

    def submit_again(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """The other run has ended."""
        self._read(event)
        return self.execute(context)

    def finish(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Judge how the run has ended."""
        try:
            counts = self._job().judge(self._read(event))
        except RefusedError as error:
            raise AirflowFailException(str(error)) from None
        except ClientError as error:
            raise AirflowException(str(error)) from None
        if counts.get("verdict") == "refused":
            reasons = " ".join(counts.get("reasons", []))
            self.log.warning("The gate refused %s; the champion stays. %s", counts.get("version"), reasons)
        self.log.info("It counted: %s", json.dumps(counts, ensure_ascii=False))
        return counts

    def _job(self) -> Job:
        return Job(self.endpoint, self.payload, self.expected)

    def _wait(self, context: Context, run_id: str, then: str) -> NoReturn:
        assert self.execution_timeout is not None, "every task has one"
        began = context["ti"].start_date or datetime.now(UTC)
        deadline = began + self.execution_timeout
        left = max(deadline - datetime.now(UTC), timedelta())
        trigger = RunTrigger(run_id, deadline.isoformat())
        self.defer(trigger=trigger, method_name=then, timeout=left + GRACE)
        raise AssertionError("deferring is raising")

    def _read(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        if event.get("refused"):
            raise AirflowFailException(event["refused"])
        if event.get("late"):
            raise AirflowException(f"{self.endpoint}: {event['late']}")
        run: Mapping[str, Any] = event["run"]
        return run


class RunTrigger(BaseTrigger):
    """
    Waits for the end of a run.

    Args:
        deadline: until when, in ISO format; the run goes on after it, and a retry joins it.
    """

    def __init__(self, run_id: str, deadline: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What another triggerer makes it anew from; no key is in it."""
        return f"{__name__}.RunTrigger", {"run_id": self.run_id, "deadline": self.deadline}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: the run, that it is late, or that the API refuses to show it."""
        left = (datetime.fromisoformat(self.deadline) - datetime.now(UTC)).total_seconds()
        api = _api(await BaseHook.aget_connection(CONNECTION))
        try:
            async with asyncio.timeout(max(left, 0)):
                run = await api.wait(self.run_id, pause_seconds=_number("POLL_SECONDS", 10))
            yield TriggerEvent({"run": run})
        except TimeoutError:
            yield TriggerEvent({"late": await asyncio.to_thread(self._last, api)})
        except RefusedError as error:
            yield TriggerEvent({"refused": str(error)})

    def _last(self, api: Api) -> str:
        try:
            known = json.dumps(api.look(self.run_id))
        except ClientError as error:
            known = str(error)
        return f"the run {self.run_id} has not ended in time. {known}"


class DriftTrigger(BaseEventTrigger):
    """An event for each alarm of drift that Marquee raises, once."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What another triggerer makes it anew from."""
        return f"{__name__}.DriftTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at `GET /v1/drift` now and then; what was told is remembered with the asset."""
        store = self.asset_state_store
        told = set(await store.aget("told", []) if store is not None else [])
        while True:
            try:
                api = _api(await BaseHook.aget_connection(CONNECTION))
                alarms = (await asyncio.to_thread(api.get, "/v1/drift")).get("alarms", [])
                raised = {str(alarm["alarm_id"]): alarm for alarm in alarms if not alarm.get("resolved_at")}
                for alarm_id in sorted(raised.keys() - told):
                    yield TriggerEvent({"alarm_id": alarm_id, "kind": raised[alarm_id].get("kind")})
                    told.add(alarm_id)
                    if store is not None:
                        await store.aset("told", sorted(told))
            except RefusedError as error:
                # Nobody waits for this trigger who could fail, and one that raises is begun anew at once.
                self.log.error("Drift trains nothing anew until the API lets us look. %s", error)
            except ClientError as error:
                self.log.info("Looking for drift again later. %s", error)
            await asyncio.sleep(_number("DRIFT_SECONDS", 300))


def _api(connection: Connection) -> Api:
    _hush()
    return Api(str(connection.host), connection.password or None)


def _hush() -> None:
    # It would log each look at a run, and the addresses of webhooks.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _inputs(context: Context) -> list[str]:
    """What an instance of a task works on, the same in every try: the events of its DAG run, or that run."""
    instance = context["ti"]
    events = context.get("triggering_asset_events") or {}
    payloads = {json.dumps(event.extra, sort_keys=True) for each in events.values() for event in each}
    return [instance.dag_id, instance.task_id, *(sorted(payloads) or [instance.run_id])]
