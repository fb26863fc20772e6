"""The OpenAPI document is a promise: whatever a client sends, the server answers as it says there."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from free_ports import free_port
from hypothesis import strategies as st
from schemathesis.checks import (
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from waiting import until

from marquee.api.app import create_app
from marquee.config import Settings
from marquee.models import Ease
from marquee.models.mlp import Mlp, MlpConfig
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, interactions, items, recommendations

SOAK = os.environ.get("MARQUEE_SOAK") == "1"

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3600)]

EXAMPLES = 500 if SOAK else 8
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def operations() -> list[tuple[str, str, str]]:
    """Every method of every path; what takes no input at all cannot be asked wrongly."""
    document = create_app(Settings()).openapi()
    return [
        (method.upper(), path, mode)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for mode in ("positive", "negative")
        if mode == "positive" or operation.get("parameters") or operation.get("requestBody")
    ]


@dataclass(frozen=True)
class Served:
    """`marquee serve` with its operator's key, and ids that are there, as hardly any would be by chance."""

    url: str
    key: str
    known: dict[str, list[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On the sample, with a model in every slot."""
    folder = tmp_path_factory.mktemp("contract")
    key_file = folder / "operator.key"
    key_file.write_text(secrets.token_urlsafe(32))
    port = free_port()
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(folder / "home"),
        "MARQUEE_PORT": str(port),
        "MARQUEE_OPERATOR_KEY_FILE": str(key_file),
        "MARQUEE_API__WAIT_SECONDS": "0",  # no worker runs: /run/* answers with the id of its run
        "MARQUEE_API__RATE_PER_KEY": "1000000/second",
        "MARQUEE_API__RATE_PER_ADDRESS": "1000000/second",
    }
    marquee = [sys.executable, "-m", "marquee.cli"]
    for command in (["ingest", "sample"], ["simulate"]):
        subprocess.run([*marquee, *command], env=environment, check=True, cwd=folder)
    versions = deploy(Settings(home=folder / "home"))
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*marquee, "serve"], env=environment, cwd=folder, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: is_ready(url), lambda: log.read_text()[-3000:], process)
        ids = httpx.get(f"{url}/available-content-ids", trust_env=False).json()["available_content_ids"][:9]
        known = {"user_id": [1, 2, 3], "item_id": ids, "content_id": ids, "version": versions}
        yield Served(url, key_file.read_text(), known)
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def schema(server: Served) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize(("method", "path", "mode"), operations())
def test_every_answer_is_one_that_the_document_promises(
    server: Served, schema: Any, method: str, path: str, mode: str
) -> None:
    """Requests that keep to the document, and such that break it; never a 5xx, never a surprise."""
    operation = schema[path][method]
    headers = {"Authorization": f"Bearer {server.key}"}

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not SOAK,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)), chance=st.randoms()
    )
    def promised(case: Any, chance: Any) -> None:
        for part in (case.path_parameters, case.body):
            for name in server.known.keys() & (part.keys() if isinstance(part, dict) else ()):
                if mode == "positive" and chance.random() < 0.7:
                    part[name] = chance.choice(server.known[name])
        case.call_and_validate(headers=headers, checks=CHECKS)

    promised()


def deploy(settings: Settings) -> list[str]:
    """Put small models, quickly trained, into the slots, and the lists of everyone into the tables."""
    versions = []
    objects = ObjectStore(settings.paths.objects)
    with Database.open(settings) as database:
        rows, catalog = interactions.load(database), items.load_catalog(database)
        mlp = Mlp(MlpConfig(hidden=(32, 32), max_epochs=3)).fit(rows)
        ease = Ease().fit(rows, catalog)
        for slot, model in (("predictor", mlp), ("champion", mlp), ("champion", ease), ("challenger", ease)):
            ref = bundles.publish(
                objects,
                model.state(),
                model=model.name,
                cards=catalog.table,
                metrics={},
                snapshot="none",
                code_version="test",
                curves=[{"name": "loss", "steps": [1, 2], "values": [2.0, 1.0]}],
            )
            versions.append(f"{ref.model}/{ref.version}")
            with database.begin() as connection:
                deployments.append(
                    connection,
                    slot,
                    bundle=ref.key,
                    digest=ref.digest,
                    model=ref.model,
                    version=ref.version,
                    deployed_by="test",
                    reason="test",
                )
        histories = rows.histories()
        with database.begin() as connection:
            recommendations.replace_all(
                connection, histories.user_ids, ease.recommend(histories, 10), bundle=ref.key
            )
    return versions


def is_ready(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", trust_env=False).json()["predictor"])
    except httpx.HTTPError:
        return False
