"""S3-compatible services: how they are reached, where the keys come from, what their errors mean."""

import configparser
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from obstore.exceptions import BaseError
from obstore.store import S3Store

from marquee.config import ObjectSettings
from marquee.errors import ConfigError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore.store import S3Credential

__all__ = ["open_s3", "translated"]

READ_AGAIN: Final = timedelta(minutes=5)
"""How old what was read from a credentials file may grow: people replace keys while servers run."""
METADATA_ADDRESS: Final = "169.254.169.254"
"""Where machines in clouds ask for their role: the last place in which keys are looked for."""

# Code of S3 → what to do. The code alone tells these apart; all of them are 403.
_FIXES: Final = {
    "SignatureDoesNotMatch": "Check both keys; docs/configuration.md says where they are looked for.",
    "InvalidAccessKeyId": "Check the access key; docs/configuration.md says where it is looked for.",
    "RequestTimeTooSkewed": "Set the clock of this machine (or of the service), for example by NTP.",
    "NoSuchBucket": "Make the bucket, or check MARQUEE_OBJECTS__URL.",
    "AccessDenied": "Let these credentials read, write, list and delete objects below MARQUEE_OBJECTS__URL.",
    "NotImplemented": "Leave the setting unset that asks for it (MARQUEE_OBJECTS__ENCRYPTION?).",
}
_TRANSIENT: Final = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling"}


def open_s3(settings: ObjectSettings, url: str) -> S3Store:
    """
    The bucket and prefix of an `s3://` URL; nothing is asked of the service yet.

    Raises:
        ConfigError: the settings or the credentials file cannot be used.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    endpoint = settings.endpoint and settings.endpoint.rstrip("/")
    path_style = endpoint is not None if settings.path_style is None else settings.path_style
    if endpoint and not path_style:
        scheme, _, host = endpoint.partition("://")
        endpoint = f"{scheme}://{bucket}.{host}"
    config: dict[str, Any] = {"virtual_hosted_style_request": not path_style}
    given = {"endpoint": endpoint, "region": settings.region, "sse_kms_key_id": settings.kms_key}
    config |= {name: value for name, value in given.items() if value is not None}
    if settings.encryption != "none":
        config["server_side_encryption"] = settings.encryption
    shared = settings.shared_credentials
    provider = None if shared is None else _CredentialsFile(*shared)
    if provider is not None:
        provider()  # what is wrong with the file is said at the start
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "timeout": timedelta(seconds=settings.timeout_seconds),
                "connect_timeout": timedelta(seconds=settings.connect_timeout_seconds),
            },
            retry_config={
                "max_retries": settings.retries,
                "retry_timeout": timedelta(seconds=settings.timeout_seconds * (settings.retries + 1)),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=10),
                    "base": 2,
                },
            },
            credential_provider=provider,
            **config,
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"The archive {url} cannot be used: {_short(str(error))}.", fix="See docs/configuration.md."
        ) from error


def translated(error: Exception, url: str, key: str) -> StoreError:
    """An error of obstore as one of ours: what happened in one line, and what to do."""
    said = str(error).partition("\nDebug source:")[0]
    code = next(iter(re.findall(r"<Code>(\w+)</Code>", said)), "")
    status = next(iter(re.findall(r"status code: (\d+)", said)), "")
    reason = next(iter(re.findall(r"<Message>(.*?)</Message>", said)), None) or _short(said)
    if METADATA_ADDRESS in said:
        return StoreError(
            f"There are no keys for the archive {url}.",
            fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or MARQUEE_OBJECTS__CREDENTIALS_FILE.",
        )
    away = "HTTP error" in said if not status else status.startswith("5") or status == "429"
    if code in _TRANSIENT or (away and code != "NotImplemented"):
        return StoreUnavailableError(
            f"The archive {url} cannot be reached: {reason}",
            fix="Check MARQUEE_OBJECTS__URL, MARQUEE_OBJECTS__ENDPOINT and the network; what waits is sent "
            "when it is back.",
        )
    return StoreError(
        f"The archive {url} refused {key}: {f'{code}: ' if code else ''}{reason}",
        fix=_FIXES.get(code, "Check MARQUEE_OBJECTS__URL and the credentials."),
    )


class _CredentialsFile:
    """Keys as other S3 clients keep them in a file."""

    def __init__(self, path: Path, profile: str) -> None:
        self._path = path
        self._profile = profile

    def __call__(self) -> "S3Credential":
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(self._path.read_text("utf-8"))
            section = parser[self._profile]
            return {
                "access_key_id": section["aws_access_key_id"],
                "secret_access_key": section["aws_secret_access_key"],
                "token": section.get("aws_session_token"),
                "expires_at": datetime.now(UTC) + READ_AGAIN,
            }
        except (OSError, ValueError, KeyError, configparser.Error) as error:
            # The message of a parser quotes the line, which may hold the secret.
            reason = (
                error.strerror if isinstance(error, OSError) else f"no keys in its section [{self._profile}]"
            )
            raise ConfigError(
                f"The credentials file {self._path} cannot be used: {reason}.",
                fix="Write aws_access_key_id and aws_secret_access_key into that section.",
            ) from None


def _short(said: str) -> str:
    """The end of a chain of errors, in one line: what happened last explains the most."""
    return " ".join(said.split("\n")[0].split()).rsplit(" - ", 1)[-1].rstrip(".")
