import json
import math
import re
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from marquee.api.app import create_app
from marquee.api.problems import KINDS
from marquee.config import Settings
from marquee.errors import MarqueeError

pytestmark = pytest.mark.integration

VIEWING = {"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 20.0}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def assert_problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idle(postgres, tmp_path_factory, running):
    """A client of an application without models, shared by tests that change nothing."""
    home = tmp_path_factory.mktemp("home")
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_api_idle TEMPLATE template_marquee")
    async with running(Settings(home=home, database={"url": postgres.url_of("test_api_idle")})) as (
        client,
        _,
    ):
        yield client


async def test_root_greets(client):
    response = await client.get("/")
    assert response.status_code == 200
    assert response.json() == {"message": "Marquee is running. See /docs."}


async def test_info_names_service_version_models_and_notice(deployed, client):
    answer = (await client.get("/info")).json()
    assert answer["service"] == "marquee"
    assert answer["version"]
    assert answer["items"] == 60
    assert answer["models"]["predictor"] == answer["models"]["champion"] == f"mlp/{deployed.version}"
    assert answer["notices"] == ["This product uses the TMDB API but is not endorsed or certified by TMDB."]


async def test_health_is_ok_with_a_predictor_and_answers_head(deployed, client):
    answer = (await client.get("/health")).json()
    assert answer["status"] == "ok"
    assert answer["lacks"] == []
    head = await client.head("/health")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["x-request-id"]


async def test_health_without_a_predictor_is_degraded_and_says_so(client):
    answer = (await client.get("/health")).json()
    assert (answer["status"], answer["database"], answer["lacks"]) == ("degraded", "ok", ["predictor"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": "1"}, "body.user_id"),
        ({"user_id": True}, "body.user_id"),
        ({"user_id": 1.5}, "body.user_id"),
        ({"user_id": -1}, "body.user_id"),
        ({"user_id": 2**63}, "body.user_id"),
        ({"content_id": None}, "body.content_id"),
        ({"content_id": False}, "body.content_id"),
        ({"watch_seconds": -1}, "body.watch_seconds"),
        ({"watch_seconds": math.nan}, "body.watch_seconds"),
        ({"watch_seconds": True}, "body.watch_seconds"),
        ({"rating": math.inf}, "body.rating"),
        ({"rating": 10.5}, "body.rating"),
        ({"rating": "8"}, "body.rating"),
        ({"popularity": -math.inf}, "body.popularity"),
        ({"k": 0}, "body.k"),
        ({"k": 101}, "body.k"),
        ({"k": True}, "body.k"),
        ({"k": 2.0}, "body.k"),
        ({"surprise": 1}, "body.surprise"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_wrong_field_is_a_422_that_names_it(idle, change, field):
    response = await idle.post("/predict", content=json.dumps({**VIEWING, **change}))
    # Content type application/json is not assumed: a body without one is invalid as a whole.
    assert_problem(response, 422)
    headers = {"content-type": "application/json"}
    body = json.dumps({**VIEWING, **change})
    problem = assert_problem(await idle.post("/predict", content=body, headers=headers), 422)
    assert problem["type"] == "/problems/invalid-request"
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("field", list(VIEWING))
@pytest.mark.asyncio(loop_scope="module")
async def test_missing_field_is_a_422_that_names_it(idle, field):
    body = {name: value for name, value in VIEWING.items() if name != field}
    problem = assert_problem(await idle.post("/predict", json=body), 422)
    assert problem["errors"][0]["field"] == f"body.{field}"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,2", b"\xff\xfe", b'"text"', b"null", b"[" * 5000, b'{"user_id": ' + b"9" * 6000 + b"}"],
    ids=["empty", "open", "list", "not-utf8", "text", "null", "deep", "long-number"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_malformed_body_is_a_422(idle, body):
    headers = {"content-type": "application/json"}
    assert_problem(await idle.post("/predict", content=body, headers=headers), 422)
    assert_problem(await idle.post("/run/train", content=body, headers=headers), 422)


@pytest.mark.parametrize("k", ["0", "101", "-1", "ten", "1.5", "", "9" * 5000])
@pytest.mark.asyncio(loop_scope="module")
async def test_k_out_of_range_is_a_422(idle, k):
    problem = assert_problem(await idle.get("/latest-recommendations", params={"k": k}), 422)
    assert problem["errors"][0]["field"] == "query.k"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.dictionaries(st.sampled_from([*VIEWING, "k", "\ud800"]), JSON, min_size=1, max_size=3))
async def test_no_body_brings_the_server_down(deployed, client, change):
    body = json.dumps({**VIEWING, **change})
    response = await client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert response.status_code in {200, 404, 422}
    if response.status_code != 200:
        assert_problem(response, response.status_code)


async def test_unknown_path_and_wrong_method_are_problems(client):
    assert assert_problem(await client.get("/nowhere"), 404)["type"] == "/problems/unknown-path"
    response = await client.get("/predict")
    problem = assert_problem(response, 405)
    assert problem["type"] == "/problems/method-not-allowed"
    assert response.headers["allow"] == "POST"
    assert_problem(await client.post("/health"), 405)


async def test_body_over_a_mebibyte_is_refused_announced_or_not(client):
    async def chunks():
        for _ in range(20):
            yield b"x" * 100_000

    headers = {"content-type": "application/json"}
    for content in (b"x" * (1024 * 1024 + 1), chunks()):
        response = await client.post("/predict", content=content, headers=headers)
        assert assert_problem(response, 413)["type"] == "/problems/body-too-large"


async def test_request_id_is_returned_logged_and_made_where_missing(client):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        given_id = (await client.get("/health", headers={"x-request-id": "abc-123"})).headers["x-request-id"]
        made = (await client.get("/nowhere")).headers["x-request-id"]
        forged = (await client.get("/health", headers={"x-request-id": "a\tb"})).headers["x-request-id"]
    assert given_id == "abc-123"
    assert UUID(made)
    assert UUID(forged)
    lines = [entry for entry in logs if entry["event"] == "api.request"]
    assert [(line["request_id"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("abc-123", "GET", "/health", 200),
        (made, "GET", "/nowhere", 404),
        (forged, "GET", "/health", 200),
    ]


async def test_unexpected_error_is_an_opaque_500_with_the_request_id(application, monkeypatch):
    client, app = application
    app.state.services = None
    response = await client.get("/health", headers={"x-request-id": "find-me"})
    problem = assert_problem(response, 500)
    assert problem["type"] == "/problems/internal-error"
    assert "find-me" in problem["detail"]
    assert "NoneType" not in response.text


async def test_docs_work_without_a_network(client):
    for page in ("/docs", "/redoc"):
        html = (await client.get(page)).text
        sources = re.findall(r'(?:src|href)="([^"]+)"', html)
        assert sources
        for source in sources:
            assert source.startswith("/"), f"{page} loads {source}"
            assert (await client.get(source)).status_code == 200


def test_every_error_class_has_a_kind_and_slugs_are_stable():
    assert MarqueeError in KINDS
    slugs = {kind.slug for kind in KINDS.values()}
    assert slugs == {
        "already-running",
        "bundle-refused",
        "erased",
        "experiment-conflict",
        "forbidden",
        "internal-error",
        "invalid-request",
        "key-reused",
        "no-model",
        "not-found",
        "not-possible",
        "overloaded",
        "rate-limited",
        "run-failed",
        "run-finished",
        "store-refused",
        "store-unavailable",
        "unauthorized",
        "unknown-content",
        "unknown-item",
    }


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    app = create_app(Settings(home=tmp_path_factory.mktemp("home")))
    assert app.openapi() == app.openapi()
    return app.openapi()


def operations(document):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_has_tag_summary_description_and_stable_id(document):
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert sorted(ids) == [
        "approve_model",
        "available_content_ids",
        "available_contents",
        "batch_recommendations",
        "cancel_run",
        "delete_item",
        "erase_user",
        "export_user",
        "get_alerts",
        "get_drift",
        "get_experiment",
        "get_experiment_history",
        "get_history",
        "get_item",
        "get_model",
        "get_outcomes",
        "get_overview",
        "get_run",
        "get_run_logs",
        "get_session",
        "get_user",
        "health",
        "info",
        "latest_recommendations",
        "list_experiments",
        "list_genres",
        "list_items",
        "list_models",
        "list_quarantine",
        "list_runs",
        "list_users",
        "livez",
        "patch_item",
        "popular",
        "predict",
        "preview_model",
        "promote_model",
        "put_items",
        "readyz",
        "recommendations",
        "report_events",
        "roll_back_model",
        "root",
        "run_backfill",
        "run_backup",
        "run_drill",
        "run_model_inference",
        "run_monitor",
        "run_pipeline",
        "run_prepare_data",
        "run_train",
        "session_recommendations",
        "similar",
        "start_experiment",
        "start_session",
        "stop_experiment",
        "summarise_catalogue",
        "summarise_quarantine",
    ]
    for name, operation in operations(document):
        assert operation["tags"], name
        assert operation["summary"], name
        assert operation["description"], name


def test_every_body_in_the_document_has_examples_that_validate(document):
    registry = Registry().with_resource("urn:api", DRAFT202012.create_resource(document))
    checked = 0
    for name, operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in (media for part in parts for media in part.get("content", {}).values()):
            examples = [example["value"] for example in media.get("examples", {}).values()]
            examples += [media["example"]] if "example" in media else []
            assert examples, f"{name} has a body without example"
            schema = {"$ref": "urn:api" + media["schema"]["$ref"]}
            for example in examples:
                Draft202012Validator(schema, registry=registry).validate(example)
                checked += 1
    assert checked >= 30
