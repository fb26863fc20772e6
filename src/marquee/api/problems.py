"""
Errors as answers: `application/problem+json` (RFC 9457) with a stable `type`.

`KINDS` is the one table from error classes to status codes. `problem_response` needs no framework
beyond a plain Starlette response, so that a route may be served with or without FastAPI.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from marquee.errors import (
    ConflictError,
    IncompatibleBundleError,
    MarqueeError,
    NoChampionError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
)

__all__ = [
    "INTERNAL",
    "INVALID",
    "KINDS",
    "InvalidRequestError",
    "Kind",
    "RunFailedError",
    "UnknownContentError",
    "document",
    "http_problem",
    "internal_problem",
    "invalid_problem",
    "problem_response",
    "responses",
]

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
FIELD_ERRORS = 20
"""A body with more offending fields than this is answered with the first ones."""


class UnknownContentError(NotFoundError):
    """A content_id that the predictor was not trained on."""


class InvalidRequestError(MarqueeError):
    """
    A request that is well-formed and still cannot be carried out.

    Args:
        field: path of the offending field, such as `body.model_name`.
    """

    def __init__(self, message: str, *, field: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.field = field


class RunFailedError(MarqueeError):
    """A pipeline run that was waited for has failed."""

    def __init__(self, message: str, *, run_id: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem, with the example that the OpenAPI document shows."""

    slug: str
    status: int
    title: str
    example: str
    fix: str | None = None

    @property
    def type(self) -> str:
        """The stable name of the kind."""
        return f"/problems/{self.slug}"


INVALID = Kind(
    "invalid-request",
    422,
    "Invalid request",
    "body.watch_seconds: Input should be greater than or equal to 0",
    "Correct the fields that `errors` lists; /docs shows an example.",
)
INTERNAL = Kind(
    "internal-error",
    500,
    "Internal error",
    "The server made a mistake; its log has it under the request id 5f0c2a.",
    "Report it with the request id.",
)
UNKNOWN_PATH = Kind(
    "unknown-path", 404, "Unknown path", "There is no GET /nowhere.", "/docs lists the paths."
)
METHOD = Kind("method-not-allowed", 405, "Method not allowed", "GET is not offered at /predict.", "Use POST.")
TOO_LARGE = Kind(
    "body-too-large", 413, "Body too large", "The body has more than 1 MiB.", "Send less at a time."
)

KINDS: Mapping[type[MarqueeError], Kind] = {
    UnknownContentError: Kind(
        "unknown-content",
        404,
        "Unknown content",
        "The content_id 1 is not in the trained vocabulary.",
        "GET /available-content-ids lists the known ones.",
    ),
    NotFoundError: Kind(
        "not-found",
        404,
        "Not found",
        "There is no run 0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11.",
        "`marquee runs` lists the runs.",
    ),
    ConflictError: Kind(
        "already-running",
        409,
        "Already running",
        "The pipeline 'train' already runs.",
        "Wait for the run 0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11, or cancel it.",
    ),
    InvalidRequestError: INVALID,
    NoChampionError: Kind(
        "no-model",
        503,
        "No model yet",
        "No model is deployed in the slot 'predictor'.",
        "Run `marquee pipeline run --model mlp`, or POST /run/train.",
    ),
    IncompatibleBundleError: Kind(
        "bundle-refused", 503, "Model refused", "manifest.json of the bundle is refused.", "Train again."
    ),
    StoreUnavailableError: Kind(
        "store-unavailable",
        503,
        "Store unavailable",
        "PostgreSQL at localhost:5432/marquee cannot be reached.",
        "Try again; `marquee doctor` looks into it.",
    ),
    StoreError: Kind("store-refused", 500, "Store refused", "PostgreSQL at localhost:5432/marquee refused."),
    RunFailedError: Kind(
        "run-failed",
        500,
        "Run failed",
        "The run 0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11 of 'train' failed: there are no interactions.",
        "`marquee runs` shows the run.",
    ),
    MarqueeError: INTERNAL,
}


def problem_response(error: MarqueeError) -> Response:
    """The answer to one of Marquee's own errors."""
    kind = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
    extra: dict[str, Any] = {}
    if isinstance(error, ConflictError | RunFailedError):
        extra["run_id"] = error.run_id
    if isinstance(error, InvalidRequestError):
        extra["errors"] = [{"field": error.field, "message": error.message}]
    headers = {"retry-after": str(RETRY_SECONDS)} if kind.status == 503 else None
    return _render(kind, error.message, error.fix or kind.fix, extra, headers)


def invalid_problem(errors: Sequence[Mapping[str, Any]]) -> Response:
    """
    The answer to a request that does not validate.

    Args:
        errors: as pydantic lists them; values that were sent are not sent back.
    """
    listed = [
        {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
        for error in errors[:FIELD_ERRORS]
    ]
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in listed)
    return _render(INVALID, detail, INVALID.fix, {"errors": listed}, None)


def http_problem(
    status: int, *, method: str, path: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to what never reached a route: unknown paths, methods that are not offered, long bodies."""
    if status == 404:
        return _render(UNKNOWN_PATH, f"There is no {method} {path}.", UNKNOWN_PATH.fix, {}, headers)
    if status == 405:
        allowed = (headers or {}).get("allow") or (headers or {}).get("Allow")
        fix = f"Use {allowed}." if allowed else "/docs lists the methods."
        return _render(METHOD, f"{method} is not offered at {path}.", fix, {}, headers)
    if status == 413:
        return _render(TOO_LARGE, TOO_LARGE.example, TOO_LARGE.fix, {}, headers)
    # The framework answers 400 to a body that it cannot decode at all: to a client that is one more
    # invalid request.
    return _render(INVALID, "The body is not JSON that can be read.", INVALID.fix, {"errors": []}, headers)


def internal_problem(request_id: str) -> Response:
    """The answer when the server is at fault: nothing of the cause leaves it."""
    detail = f"The server made a mistake; its log has it under the request id {request_id}."
    return _render(INTERNAL, detail, INTERNAL.fix, {}, None)


def responses(*errors: type[MarqueeError]) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for the OpenAPI document."""
    made: dict[int | str, dict[str, Any]] = {}
    for kind in (KINDS[error] for error in errors):
        entry = made.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        example: dict[str, Any] = {"summary": kind.title, "value": document(kind, kind.example, kind.fix)}
        entry["content"][MEDIA_TYPE]["examples"][kind.slug] = example
    return made


def document(kind: Kind, detail: str, fix: str | None, **extra: Any) -> dict[str, Any]:
    """The body of a problem; members without value are left out."""
    body = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": detail, "fix": fix}
    return {name: value for name, value in {**body, **extra}.items() if value is not None}


def _render(
    kind: Kind, detail: str, fix: str | None, extra: Mapping[str, Any], headers: Mapping[str, str] | None
) -> Response:
    body = document(kind, detail, fix, **extra)
    try:
        content = orjson.dumps(body)
    except TypeError:  # a lone surrogate in a name that was sent: only \u escapes can carry it
        content = json.dumps(body).encode()
    return Response(content, kind.status, headers, media_type=MEDIA_TYPE)
