"""The OpenAPI document, with what FastAPI does not put there."""

from typing import Any, Final

from marquee.api import schemas as bodies
from marquee.api.access import ROLES, USERS, needed_roles
from marquee.api.problems import (
    HEAD_TOO_LONG,
    KINDS,
    TOO_LARGE,
    ForbiddenError,
    Kind,
    OverloadedError,
    RateLimitedError,
    UnauthorizedError,
    responses_of,
)
from marquee.api.schemas.service import Problem

__all__ = ["complete"]

SECURITY_SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `marquee keys create` shows it. Its role decides what it may do.",
    },
    "visitor": {
        "type": "apiKey",
        "in": "cookie",
        "name": "marquee_session",
        "description": "Set by `POST /v1/session`; names one user.",
    },
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """
    Add what the edge may answer, who may ask, the shape of problems, and an example of each body.

    Args:
        document: as FastAPI makes it; changed in place, once.
    """
    schemas = document["components"]["schemas"]
    if "Problem" in schemas:
        return document  # FastAPI hands out the same document again
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"), Problem=problem)
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    shown = bodies.examples()
    for name, schema in schemas.items():
        if "examples" in schema and name in shown:  # FastAPI has dropped their nulls
            schema["examples"] = shown[name]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _add_edge(method.upper(), path, operation)
            _add_examples(operation, schemas)
    return document


def _add_edge(method: str, path: str, operation: dict[str, Any]) -> None:
    """What the edge may answer in place of the route, and whom it lets through."""
    # Unlike the others these two may come before any other check; a key may be wrong on open paths, too.
    kinds = [KINDS[error] for error in (UnauthorizedError, RateLimitedError, OverloadedError)]
    needed = needed_roles(method, path)
    if needed is not None:
        kinds.append(KINDS[ForbiddenError])
        by_cookie = path.startswith(USERS) or "visitor" in needed
        operation["security"] = [{"key": []}, *([{"visitor": []}] if by_cookie else [])]
        who = " or ".join(role for role in ROLES if role in needed)
        own = ", or the visitor themselves" if path.startswith(USERS) else ""
        operation["description"] = f"{operation['description']}\n\nRole: {who}{own}."
    if "requestBody" in operation:
        kinds.append(TOO_LARGE)
    if any(p["schema"].get("type") == "array" for p in operation.get("parameters", ())):
        kinds.append(HEAD_TOO_LONG)  # a query has no other limit
    _add_kinds(operation["responses"], kinds)


def _add_kinds(documented: dict[str, Any], kinds: list[Kind]) -> None:
    for status, entry in responses_of(*kinds).items():
        known = documented.setdefault(str(status), entry)
        for media, content in entry["content"].items():
            known["content"][media]["examples"].update(content["examples"])


def _add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        body = part.get("content", {}).get("application/json")
        if body is not None:
            name = body["schema"]["$ref"].rpartition("/")[2]
            body["example"] = schemas[name]["examples"][0]
