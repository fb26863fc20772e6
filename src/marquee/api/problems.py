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
    ErasedUserError,
    ExperimentConflictError,
    IncompatibleBundleError,
    KeyReusedError,
    MarqueeError,
    NoChampionError,
    NotFoundError,
    RegistryError,
    RunFinishedError,
    StoreError,
    StoreUnavailableError,
)

__all__ = [
    "BAD_REQUEST",
    "HEAD_TOO_LONG",
    "INTERNAL",
    "INVALID",
    "KINDS",
    "TIMEOUT",
    "TOO_LARGE",
    "ForbiddenError",
    "InvalidRequestError",
    "Kind",
    "OverloadedError",
    "RateLimitedError",
    "RunFailedError",
    "UnauthorizedError",
    "UnknownContentError",
    "UnknownItemError",
    "document",
    "http_problem",
    "internal_problem",
    "invalid_problem",
    "problem_response",
    "responses",
    "responses_of",
]

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
FIELD_ERRORS = 20
"""A body with more offending fields than this is answered with the first ones."""


class UnknownContentError(NotFoundError):
    """A content_id that the predictor was not trained on."""


class UnknownItemError(NotFoundError):
    """An item that the catalogue does not have, or no longer."""


class InvalidRequestError(MarqueeError):
    """
    A request that is well-formed and still cannot be carried out.

    Args:
        field: path of the offending field, such as `body.model_name`.
    """

    def __init__(self, message: str, *, field: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.field = field


class UnauthorizedError(MarqueeError):
    """A request that does not say who sends it, or with a key that is not valid."""


class ForbiddenError(MarqueeError):
    """A request that its sender may not make."""


class RateLimitedError(MarqueeError):
    """
    One request too many of one sender.

    Args:
        seconds: after which it may ask again.
    """

    def __init__(self, message: str, *, seconds: int, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.seconds = seconds


class OverloadedError(MarqueeError):
    """More requests than the process can answer in time."""


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
TIMEOUT = Kind(
    "request-timeout", 408, "Request Timeout", "The request took too long to arrive.", "Send it faster."
)
HEAD_TOO_LONG = Kind(
    "head-too-large",
    431,
    "Request Header Fields Too Large",
    "The headers have more than 64 KiB.",
    "Send fewer of them.",
)
BAD_REQUEST = Kind(
    "bad-request", 400, "Bad Request", "This is not a request of HTTP/1.1.", "Speak HTTP/1.1, without TLS."
)

KINDS: Mapping[type[MarqueeError], Kind] = {
    UnknownContentError: Kind(
        "unknown-content",
        404,
        "Unknown content",
        "The content_id 1 is not in the trained vocabulary.",
        "GET /available-content-ids lists the known ones.",
    ),
    UnknownItemError: Kind(
        "unknown-item",
        404,
        "Unknown item",
        "There is no item 1.",
        "GET /v1/items?q= finds items by title.",
    ),
    ErasedUserError: Kind(
        "erased",
        410,
        "Erased user",
        "The user 4503599627370497 is erased; nothing more is kept of them.",
        "POST /v1/session begins anew as somebody else.",
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
    RunFinishedError: Kind(
        "run-finished",
        409,
        "Run finished",
        "The run 0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11 has succeeded already.",
    ),
    KeyReusedError: Kind(
        "key-reused",
        422,
        "Key reused",
        "The Idempotency-Key 'daily 2026-11-22' stands for another request, that of the run "
        "0b0f8a5e-6f0e-4b9a-8f57-3d8a0c3d8f11.",
        "Use a new key for a new request.",
    ),
    ExperimentConflictError: Kind(
        "experiment-conflict",
        409,
        "Another experiment",
        "The experiment 'canary 7' (3) is running.",
        "Wait for its end, or stop it.",
    ),
    InvalidRequestError: INVALID,
    UnauthorizedError: Kind(
        "unauthorized",
        401,
        "Unauthorized",
        "POST /run/train needs the role operator.",
        "Send a key as `Authorization: Bearer …`; `marquee keys create` makes one.",
    ),
    ForbiddenError: Kind(
        "forbidden",
        403,
        "Forbidden",
        "POST /run/train needs the role operator; this key has the role viewer.",
        "Use a key of that role.",
    ),
    RateLimitedError: Kind(
        "rate-limited",
        429,
        "Too many requests",
        "This address has made more requests than it may.",
        "Wait for as many seconds as Retry-After says.",
    ),
    OverloadedError: Kind(
        "overloaded",
        503,
        "Overloaded",
        "More requests are under way than can be answered in time.",
        "Wait for as many seconds as Retry-After says.",
    ),
    RegistryError: Kind(
        "not-possible",
        409,
        "Not possible now",
        "Nothing has served as 'champion' before ease/20261122T101500.000000Z-3f2a9c0d1e2b.",
        "`marquee models` lists the versions and their slots.",
    ),
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
    if isinstance(error, RateLimitedError):
        headers = {"retry-after": str(error.seconds)}
    if isinstance(error, UnauthorizedError):
        headers = {"www-authenticate": "Bearer"}
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
    return responses_of(*(KINDS[error] for error in errors))


def responses_of(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Kinds of problems, for the OpenAPI document."""
    made: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
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
