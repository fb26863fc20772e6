"""
Every error that Marquee raises on purpose.

    MarqueeError
    ├─ ConfigError              start-up only: names the setting and the fix
    ├─ DataError
    │  ├─ SchemaError           a table or file has not the columns or types it must have
    │  ├─ StaleDataError        facts older than they may be
    │  └─ SourceUnavailableError an upstream such as TMDB gives no usable answer now; retryable
    ├─ NotFoundError            unknown item, run, version → 404
    ├─ ConflictError            the same pipeline already runs → 409
    │  └─ RunFinishedError      what has ended cannot be cancelled → 409
    ├─ KeyReusedError           an idempotency key that stood for another request → 422
    ├─ ExperimentConflictError  another experiment runs, or this one has ended → 409
    ├─ ErasedUserError          a person who asked to be forgotten → 410
    ├─ ModelError
    │  └─ NotFittedError
    ├─ RegistryError
    │  ├─ NoChampionError
    │  └─ IncompatibleBundleError
    └─ StoreError
       ├─ DamagedObjectError    the content of an object is not what was stored
       └─ StoreUnavailableError retryable → 503
          └─ StoreBusyError      it answers, and could not do this just now

Caller mistakes stay `ValueError` and `TypeError`. Each message says what happened, which value, and
what to do next; `fix` carries the last part where it can be shown on its own.
"""

__all__ = [
    "ConfigError",
    "ConflictError",
    "DamagedObjectError",
    "DataError",
    "ErasedUserError",
    "ExperimentConflictError",
    "IncompatibleBundleError",
    "KeyReusedError",
    "MarqueeError",
    "ModelError",
    "NoChampionError",
    "NotFittedError",
    "NotFoundError",
    "RegistryError",
    "RunFinishedError",
    "SchemaError",
    "SourceUnavailableError",
    "StaleDataError",
    "StoreBusyError",
    "StoreError",
    "StoreUnavailableError",
]


class MarqueeError(Exception):
    """
    The root of the tree.

    Args:
        message: what happened, with the value it happened to.
        fix: what to do next, one imperative sentence or a command.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}" if self.fix else self.message


class ConfigError(MarqueeError):
    """A setting is missing or wrong."""


class DataError(MarqueeError):
    """Input that cannot be used."""


class SchemaError(DataError):
    """A table or file has not the columns or types it must have."""


class StaleDataError(DataError):
    """Facts are older than they may be."""


class SourceUnavailableError(DataError):
    """An upstream gives no usable answer now; trying again later may help."""


class NotFoundError(MarqueeError):
    """Something named by the caller does not exist."""


class ConflictError(MarqueeError):
    """
    The same thing is already under way.

    Args:
        message: what is under way.
        run_id: the run that is under way.
    """

    def __init__(self, message: str, *, run_id: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.run_id = run_id


class RunFinishedError(ConflictError):
    """A run that has ended: nothing changes it any more."""


class KeyReusedError(MarqueeError):
    """An idempotency key that stood for another request."""


class ExperimentConflictError(MarqueeError):
    """Another experiment runs, or the one named has ended already."""


class ErasedUserError(MarqueeError):
    """The user asked to be forgotten: nothing more is kept of them."""


class ModelError(MarqueeError):
    """A model cannot do what was asked."""


class NotFittedError(ModelError):
    """A model was used before `fit`."""


class RegistryError(MarqueeError):
    """A version, bundle or slot is not as it must be."""


class NoChampionError(RegistryError):
    """No bundle is deployed in the slot."""


class IncompatibleBundleError(RegistryError):
    """A bundle does not verify, or is of a format this version cannot read."""


class StoreError(MarqueeError):
    """A database or object store refused."""


class DamagedObjectError(StoreError):
    """The content of an object is not what was stored."""


class StoreUnavailableError(StoreError):
    """A database or object store cannot be reached now; trying again later may help."""


class StoreBusyError(StoreUnavailableError):
    """A database answers and could not do this one thing now, for a lock, a time limit or a full disk."""
