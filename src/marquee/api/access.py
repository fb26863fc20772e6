"""
Who may do what: who a caller is, and the roles that paths need.

The edge asks here before any route runs, so that no route checks roles itself. What a path needs is told by
its beginning; a change that is not named here needs an operator.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import Depends, Request
from starlette.types import Scope

from marquee.api.credentials import Cookies, KeyRing, read_operator_key
from marquee.api.problems import ForbiddenError, UnauthorizedError
from marquee.config import Settings
from marquee.errors import MarqueeError
from marquee.store.secrets import read_secret

__all__ = ["ROLES", "USERS", "Access", "Caller", "CallerDep", "Role", "is_loopback", "may", "needed_roles"]

Role = Literal["anonymous", "visitor", "viewer", "service", "operator"]
Roles = frozenset[str]

ROLES: Final[tuple[Role, ...]] = ("anonymous", "visitor", "viewer", "service", "operator")

READERS: Final = frozenset({"viewer", "service", "operator"})
SERVICES: Final = frozenset({"service", "operator"})
REPORTERS: Final = frozenset({"visitor", "service", "operator"})
OPERATORS: Final = frozenset({"operator"})

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
USERS: Final = "/v1/users/"
FOR_OPERATORS: Final = (
    "/run/",
    "/v1/keys",
    "/v1/overview",
    "/v1/outcomes",
    "/v1/drift",
    "/v1/alerts",
    "/v1/quarantine",
    "/v1/catalogue/",
)
PUBLIC_CHANGES: Final = frozenset({"/predict", "/v1/recommendations", "/v1/session"})
"""They change nothing that another caller is answered with, other than the newest predictions."""

FORWARDED: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip"}
    | {b"cf-connecting-ip", b"fastly-client-ip", b"x-original-host", b"x-host", b"client-ip"}
)
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
MAKE_A_KEY: Final = "Make a key with `marquee keys create NAME --role operator`"


class Caller(NamedTuple):
    """
    Who sent a request; the edge puts it into `scope["marquee"]`.

    Attributes:
        user_id: whom the cookie names, for visitors.
        key_id: of the API key that was shown, None without one.
        request_id: the caller's, else one of ours; ours are UUIDs.
    """

    role: Role
    user_id: int | None
    key_id: str | None
    request_id: str

    @property
    def may_read_anybody(self) -> bool:
        """Whether the caller may see what any user did."""
        return self.role in READERS

    def may_act_as(self, user_id: int) -> bool:
        """Whether the caller may report what this user did."""
        return self.role in SERVICES or (self.role == "visitor" and self.user_id == user_id)


class Access:
    """
    Tells callers apart.

    Until the first key is made, whoever sits at the machine is its operator: requests from loopback addresses
    are trusted, unless they may have been passed on by a proxy, or sent by another site's page in a browser
    that runs here. Another site cannot help to send its own name as `Host` (DNS rebinding) or as `Origin`.

    Raises:
        ConfigError: the operator key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.keys = KeyRing(read_operator_key(settings.operator_key_file))
        self._secrets = settings.paths.secrets
        self._is_demo = settings.demo
        self._origins = frozenset(origin.encode() for origin in settings.api.cors_origins)
        self._loopback_may_be_trusted = is_loopback(settings.host) and not settings.api.trusted_proxies
        self._hosts: dict[int | None, frozenset[bytes]] = {}

    @cached_property
    def cookies(self) -> Cookies:
        """The visitors' cookies; the secret that signs them is made on first use."""
        return Cookies(read_secret(self._secrets, "cookies"))

    @property
    def trusts_loopback(self) -> bool:
        """Whether requests of this machine are an operator's now."""
        return self._loopback_may_be_trusted and self.keys.is_empty

    def identify(
        self, scope: Scope, headers: Mapping[bytes, bytes]
    ) -> tuple[Role, int | None, str | None] | None:
        """
        Role, user id and key id of a caller, None when a key was shown that is not valid.

        Args:
            headers: the last of each name.
        """
        authorization = headers.get(b"authorization")
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            key = self.keys.find(authorization[7:].strip())
            if key is not None:
                return key.role, None, key.key_id
            if self.keys.readable:
                return None
        cookie = headers.get(b"cookie")
        user_id = self.cookies.user_of(cookie) if cookie is not None else None
        if self.trusts_loopback and self._doubt(scope, headers) is None:
            return "operator", user_id, None
        if user_id is not None and not self._from_another_site(scope, headers):
            return "visitor", user_id, None
        return "anonymous", None, None

    def allows(self, caller: Caller, method: str, path: str) -> bool:
        """Whether a caller may do that here; in a demo everybody may see whom they can play."""
        return may(caller, method, path) or (self._is_demo and path == "/v1/users" and method in SAFE)

    def refusal(self, scope: Scope, headers: Mapping[bytes, bytes], role: Role) -> MarqueeError:
        """Why a caller of this role may not do what it asks for."""
        request = f"{scope['method']} {scope['path']}"
        needed = " or ".join(sorted(needed_roles(scope["method"], scope["path"]) or OPERATORS))
        if role not in ("anonymous", "visitor"):
            return ForbiddenError(
                f"{request} needs the role {needed}; this key has the role {role}.",
                fix="Use a key of that role.",
            )
        if b"cookie" in headers and self._from_another_site(scope, headers):
            return ForbiddenError(
                f"{request} was sent by a page of {_shown(headers.get(b'origin', b'another site'))}.",
                fix="Let the operator add that site to MARQUEE_API__CORS_ORIGINS.",
            )
        if role == "visitor":
            return ForbiddenError(
                f"{request} is not open to this visitor, who acts as one user only.",
                fix="Use /v1/users with the user_id that POST /v1/session answered.",
            )
        doubt = self._doubt(scope, headers) if self.trusts_loopback else None
        if doubt is not None:
            return UnauthorizedError(
                f"{request} needs the role {needed}, and this request is not trusted: {doubt}.",
                fix=f"{MAKE_A_KEY}, and send it as `Authorization: Bearer …`.",
            )
        return UnauthorizedError(
            f"{request} needs the role {needed}.",
            fix="Send a key as `Authorization: Bearer …`; `marquee keys create` makes one.",
        )

    def _doubt(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
        """Why a request may come from elsewhere than this machine; None when nothing says so."""
        client = scope.get("client")
        if client is None or not is_loopback(client[0]):
            return "it comes from another machine"
        host = headers.get(b"host", b"")
        if host not in self._own_hosts(scope):
            return f"its Host is {_shown(host)}"
        origin = headers.get(b"origin")
        if origin is not None and origin != b"%b://%b" % (scope["scheme"].encode(), host):
            return f"its Origin is {_shown(origin)}"
        if origin is None and headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return "another site's page sent it"
        for name in headers:
            if name[:12] == b"x-forwarded-" or name in FORWARDED:
                return f"a proxy passed it on ({_shown(name)})"
        return None

    def _own_hosts(self, scope: Scope) -> frozenset[bytes]:
        """The values of `Host` that name this machine and port."""
        server = scope.get("server")
        port = server[1] if server is not None else None
        if port not in self._hosts:
            bare = () if port not in (None, 80) else LOOPBACK_NAMES
            full = () if port is None else (f"{name}:{port}" for name in LOOPBACK_NAMES)
            self._hosts[port] = frozenset(name.encode() for name in (*bare, *full))
        return self._hosts[port]

    def _from_another_site(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a page of another site asks for a change; browsers say so of themselves."""
        if scope["method"] in SAFE:
            return False
        origin = headers.get(b"origin")
        if origin is None:
            return headers.get(b"sec-fetch-site") == b"cross-site"
        # A proxy may have ended TLS: what counts is that the site is the same.
        return origin.partition(b"://")[2] != headers.get(b"host") and origin not in self._origins


def needed_roles(method: str, path: str) -> Roles | None:
    """The roles of which a caller needs one, None where everybody may; a visitor's own pages aside."""
    if path.startswith(USERS):
        return READERS if method in SAFE else SERVICES
    if method in SAFE:
        if path.startswith("/v1/models/") and path.endswith("/recommendations"):
            return OPERATORS  # it loads a model
        if path.startswith("/v1/runs/") and path.endswith("/logs"):
            return OPERATORS
        if path.startswith("/v1/experiments/") and path.endswith("/history"):
            return OPERATORS
        if path.startswith(("/v1/models", "/v1/experiments", "/v1/users")):
            return READERS
        return OPERATORS if path.startswith(FOR_OPERATORS) else None
    if path in PUBLIC_CHANGES:
        return None
    if path == "/v1/events":
        return REPORTERS
    return READERS if path.startswith("/v1/recommendations/") else OPERATORS


def may(caller: Caller, method: str, path: str) -> bool:
    """Whether a caller has a role that the path needs, or is the user that it is about."""
    needed = needed_roles(method, path)
    if needed is None or caller.role in needed:
        return True
    return (
        caller.role == "visitor"
        and path.startswith(USERS)
        # As text: other spellings of the same number are nobody's.
        and path[len(USERS) :].partition("/")[0] == str(caller.user_id)
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, or come from it."""
    return host in ("localhost", "::1", "::ffff:127.0.0.1") or (
        host.startswith("127.") and host.replace(".", "").isdigit()
    )


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("latin-1")) if value else "missing"


def _caller(request: Request) -> Any:
    return request.scope["marquee"]


CallerDep = Annotated[Caller, Depends(_caller)]
