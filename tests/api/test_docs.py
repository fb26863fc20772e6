"""docs/api.md, executed: every curl in it is sent to the real application."""

import json
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from marquee.api.problems import (
    BAD_REQUEST,
    HEAD_TOO_LONG,
    INTERNAL,
    INVALID,
    KINDS,
    METHOD,
    TIMEOUT,
    TOO_LARGE,
    UNKNOWN_PATH,
)
from marquee.store.repositories import monitoring, quarantine, run_logs, runs
from marquee.store.repositories.run_logs import Line

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
EXAMPLE = re.compile(
    r"```sh\n(?P<command>curl .*?)```\n\n```json (?P<status>\d+)\n(?P<answer>.*?)```", re.DOTALL
)
RUN_ID = UUID("0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11")


@dataclass(frozen=True)
class Example:
    method: str
    path: str
    body: str | None
    headers: dict[str, str]
    status: int
    answer: object


def examples() -> list[Example]:
    found = []
    for match in EXAMPLE.finditer(PAGE):
        words = iter(shlex.split(match["command"].replace("\\\n", " "))[1:])
        method, path, body, headers = None, "", None, {}
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-d":
                body = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            else:
                path = word.removeprefix("http://localhost:8000")
        method = method or ("GET" if body is None else "POST")
        found.append(Example(method, path, body, headers, int(match["status"]), json.loads(match["answer"])))
    return found


def assert_same_shape(documented, real, where="answer"):
    """Same keys and kinds of values; null stands for anything, lists are alike in their first entry."""
    if documented is None or real is None:
        return
    if isinstance(documented, bool | str) or not isinstance(documented, int | float):
        assert type(documented) is type(real), where
    else:
        assert isinstance(real, int | float), where
    if isinstance(documented, dict):
        assert documented.keys() == real.keys(), where
        for name in documented:
            if name not in {"parameters", "counts", "fields", "row", "languages", "by_source"}:
                assert_same_shape(documented[name], real[name], f"{where}.{name}")
    elif isinstance(documented, list) and documented:
        assert real, f"{where} is empty"
        assert_same_shape(documented[0], real[0], f"{where}[0]")


async def test_every_documented_curl_gives_the_documented_answer(deployed, worker, client, database):
    shown = examples()
    assert len(shown) == PAGE.count("```sh") >= 14
    running = [example for example in shown if example.path.startswith("/v1/runs")]
    others = [example for example in shown if not example.path.startswith("/v1/runs")]
    await worker()
    with database.begin() as connection:
        quarantine.append(connection, "tmdb", [("title: Field required", {"id": 27205})])
        drift = next(each.answer for each in shown if each.path.startswith("/v1/drift"))
        now = datetime.now(UTC)
        monitoring.append(connection, now, 0.4, measured(drift), keep=timedelta(days=400))
        monitoring.raise_alarm(connection, "taste", now, drift["alarms"][0]["evidence"])
    for example in others:
        await check(client, example)
    with database.begin() as connection:
        runs.create(connection, "train", {"model": "mlp"}, run_id=RUN_ID)
        runs.start(connection, RUN_ID)
        run_logs.append(connection, [Line(RUN_ID, datetime.now(UTC), "info", "run.step", {"step": "fit"})])
        for example in running:
            connection.commit()
            await check(client, example)


def measured(drift):
    """What monitoring keeps of an answer of `GET /v1/drift`."""
    marks = {"exceeded": [True, True], "alarming": True}
    features = [{**each, **marks, "feature": each["name"]} for each in drift["features"]]
    return {"drift": features, "quality": drift["quality"], "skew": None}


async def check(client, example):
    response = await client.request(
        example.method, example.path, content=example.body, headers=example.headers
    )
    assert response.status_code == example.status, (example, response.text)
    assert_same_shape(example.answer, response.json(), f"{example.method} {example.path}")
    if example.status >= 400:
        assert response.json() == example.answer


def test_every_kind_of_problem_is_in_the_table():
    kinds = {*KINDS.values(), INTERNAL, INVALID, METHOD, TOO_LARGE, UNKNOWN_PATH}
    kinds |= {BAD_REQUEST, HEAD_TOO_LONG, TIMEOUT}
    rows = set(re.findall(r"^\| (\d+) \| `(/problems/[a-z-]+)` \|", PAGE, re.MULTILINE))
    assert rows == {(str(kind.status), kind.type) for kind in kinds}


def test_every_operation_is_documented(tmp_path):
    from marquee.api.app import create_app
    from marquee.config import Settings

    document = create_app(Settings(home=tmp_path)).openapi()
    wanted = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert set(re.findall(r"^### (\w+ /\S*)$", PAGE, re.MULTILINE)) == wanted
