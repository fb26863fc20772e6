"""
Marquee's pipelines over HTTP: submit a run, wait for it, judge how it ended.

Knows nothing of Airflow (marquee_tasks does). A `Job` says what is asked for; whoever wants another pipeline
changes its endpoint, payload and expected result and nothing else. Submitting a job twice with one key is
submitting it once, so that a lost answer costs nothing:

    api = Api("http://127.0.0.1:8000", key)
    job = Job("/run/train", {"model_name": "ease"}, expected={"model": "ease"})
    counts = job.judge(api.look(api.submit(job, job.key("2026-11-23"))))

Errors, by what to do about them:

    ClientError
    ├─ LaterError        no answer, or one that says later: try again
    │  └─ BusyError      another run of that pipeline has to end first
    ├─ RunFailedError    the run failed: submitting it again starts a new one
    └─ RefusedError      trying again cannot help
       └─ WrongResultError
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Api",
    "BusyError",
    "ClientError",
    "Job",
    "LaterError",
    "RefusedError",
    "RunFailedError",
    "WrongResultError",
]

UNFINISHED = ("queued", "running")
LATER = (409, 429)
SOON_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
SHOWN_CHARACTERS = 2_000


class ClientError(Exception):
    """What went wrong, with the problem document of the API where it sent one."""


class LaterError(ClientError):
    """No answer, or one that says later."""


class BusyError(LaterError):
    """
    Another run of that pipeline is unfinished.

    Args:
        run_id: which.
    """

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailedError(ClientError):
    """The run failed."""


class RefusedError(ClientError):
    """Trying again cannot help."""


class WrongResultError(RefusedError):
    """The run succeeded, and what it counted is not what was expected; asked again it says the same."""


@dataclass(frozen=True)
class Job:
    """
    What is asked for.

    Attributes:
        endpoint: path that queues a run, such as `/run/train`.
        payload: JSON body; None: without one.
        expected: of what the run counts, name → its value, a tuple of allowed values, or a type of which it
            must be and not zero or empty.
    """

    endpoint: str
    payload: Mapping[str, Any] | None = None
    expected: Mapping[str, Any] = field(default_factory=dict)

    def key(self, *instance: str) -> str:
        """The idempotency key of one instance of this job: the same in every try."""
        parts = json.dumps([*instance, self.endpoint, self.payload], sort_keys=True)
        return f"airflow-{hashlib.sha256(parts.encode()).hexdigest()}"

    def judge(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """
        What a finished run has counted, without the gate's long report.

        Raises:
            RunFailedError: it failed.
            RefusedError: it was cancelled: somebody did not want it.
            WrongResultError: it counted something else than expected.
        """
        what = f"{self.endpoint}: the run {run['run_id']}"
        if run["status"] == "cancelled":
            raise RefusedError(f"{what} was cancelled: {run.get('error')}")
        if run["status"] != "succeeded":
            raise RunFailedError(f"{what} {run['status']}: {run.get('error')}")
        counts = run["counts"]
        wrong = [
            f"{name} is {_shown(counts.get(name))}, expected {_named(wanted)}"
            for name, wanted in self.expected.items()
            if not _matches(counts.get(name), wanted)
        ]
        if wrong:
            raise WrongResultError(f"{what} has a wrong result: {'; '.join(wrong)}. It is: {_shown(run)}")
        return {name: value for name, value in counts.items() if name != "report"}


@dataclass(frozen=True)
class Api:
    """
    A Marquee server.

    Attributes:
        url: its address.
        key: an operator key; in no message and no representation.
        timeout_seconds: of one request; runs are not waited for within one.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0

    def is_well(self) -> bool:
        """Whether it answers and reaches its database; without a model yet it is well, too."""
        try:
            # Without the key: the API is well even where that is revoked; the task that needs it says so.
            with httpx.Client(base_url=self.url, timeout=self.timeout_seconds) as client:
                state = client.get("/health").json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return False
        return isinstance(state, dict) and state.get("database") == "ok"

    def submit(self, job: Job, key: str) -> str:
        """
        Queue a run, or join the one that is there under this key.

        Returns:
            Its id.

        Raises:
            ClientError: as drawn above.
        """
        headers = {"Idempotency-Key": key}
        with _translated(f"POST {job.endpoint}"), self._client() as client:
            answer = client.post(job.endpoint, params={"wait": "false"}, json=job.payload, headers=headers)
        body = _read(answer)
        # Who joins a run that has ended gets what it answered then; where that run is, is in the header.
        run_id = body.get("run_id") or answer.headers.get("location", "").rpartition("/")[2]
        if not run_id:
            raise LaterError(f"{_asked(answer)} was answered without a run: {_shown(body)}")
        return str(run_id)

    def look(self, run_id: str) -> dict[str, Any]:
        """
        What a run is doing, or how it ended.

        Raises:
            ClientError: as drawn above.
        """
        path = f"/v1/runs/{run_id}"
        with _translated(f"GET {path}"), self._client() as client:
            answer = client.get(path)
        return _run(answer)

    def ended_soon(self, run_id: str, *, seconds: float) -> dict[str, Any] | None:
        """
        A run that ends within seconds; None where it does not, or cannot be looked at meanwhile.

        Raises:
            RefusedError: the API does not let us look.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                run = self.look(run_id)
            except LaterError:
                return None
            if run["status"] not in UNFINISHED:
                return run
            time.sleep(SOON_SECONDS)
        return None

    async def wait(self, run_id: str, *, pause_seconds: float = 10.0) -> dict[str, Any]:
        """
        A run when it has ended. An API that is away meanwhile is asked again, more and more seldom.

        The first look is after a pause, too: Airflow must have noted that a task waits before it is woken.

        Raises:
            RefusedError: the API does not let us look.
        """
        path = f"/v1/runs/{run_id}"
        pause = pause_seconds
        async with httpx.AsyncClient(**self._options()) as client:
            while True:
                await asyncio.sleep(pause)
                try:
                    with _translated(f"GET {path}"):
                        answer = await client.get(path)
                    run, pause = _run(answer), pause_seconds
                    if run["status"] not in UNFINISHED:
                        return run
                except LaterError:
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def get(self, path: str) -> dict[str, Any]:
        """
        What the API answers.

        Raises:
            ClientError: as drawn above.
        """
        with _translated(f"GET {path}"), self._client() as client:
            answer = client.get(path)
        return _read(answer)

    def _client(self) -> httpx.Client:
        return httpx.Client(**self._options())

    def _options(self) -> dict[str, Any]:
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise RefusedError("The key of the connection holds characters that no key has.")
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout_seconds}


@contextmanager
def _translated(asked: str) -> "Iterator[None]":
    """Errors of the HTTP library as ours; theirs hold the request, and with it the key."""
    try:
        yield
    except httpx.InvalidURL as error:
        raise RefusedError(f"{asked}: {error}") from None
    except httpx.HTTPError as error:
        raise LaterError(f"{asked} got no answer: {type(error).__name__}: {error}") from None


def _read(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    if answer.is_success and isinstance(body, dict):
        return body
    message = f"{_asked(answer)} was answered {answer.status_code}: {_shown(body)}"
    if answer.status_code == 409 and isinstance(body, dict) and body.get("run_id"):
        raise BusyError(message, str(body["run_id"]))
    if answer.is_success or answer.status_code in LATER or answer.is_server_error:
        raise LaterError(message)
    raise RefusedError(message)


def _run(answer: httpx.Response) -> dict[str, Any]:
    body = _read(answer)
    if not {"run_id", "status", "counts"} <= body.keys():
        raise LaterError(f"{_asked(answer)} was answered with no run: {_shown(body)}")
    return body


def _asked(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url.path}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"


def _named(wanted: object) -> str:
    if isinstance(wanted, type):
        return f"some {wanted.__name__}"
    return " or ".join(map(_shown, wanted)) if isinstance(wanted, tuple) else _shown(wanted)


def _matches(value: object, wanted: Any) -> bool:
    if isinstance(wanted, type):
        return isinstance(value, wanted) and bool(value)
    return value in wanted if isinstance(wanted, tuple) else bool(value == wanted)
