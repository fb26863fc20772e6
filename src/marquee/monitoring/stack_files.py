"""
What of the configuration of the programs that watch Marquee depends on where things run.

Prometheus and Alertmanager expand no variables. So the files of `deploy/` are valid as they are, for one
machine, and `render` writes them for other places: targets for each job and host, where runbooks are, and the
mail server, addresses, channels and secrets of Alertmanager.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from marquee.config import OpsSettings
from marquee.errors import ConfigError
from marquee.monitoring.stack import RENDERED, Target, Targets

__all__ = ["deploy_folder", "render"]

LOCAL_INTERVAL: Final = "5s"
"""Between scrapes, and for one, where everything is on one machine: what is started is seen soon."""


def deploy_folder() -> Path:
    """
    Where the configuration of the stack is: in the package, or in the repository that it runs from.

    Raises:
        ConfigError: it is in neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "deploy", package.parents[1] / "deploy"):
        if (folder / "prometheus" / "prometheus.yml").is_file():
            return folder
    raise ConfigError(
        f"The configuration of Prometheus is not beside {package}.",
        fix="Install Marquee from its wheel, or run it from its repository.",
    )


def render(folder: Path, chosen: Targets, ops: OpsSettings, *, local: bool = False) -> list[Path]:
    """
    Write the folders `prometheus` and `alertmanager`, ready to be used, and `loki/rules`.

    Args:
        local: everything is on one machine, without Loki, and the folder is ours: look more often.

    Returns:
        The files written.
    """
    written: list[Path] = []
    if local and (folder / "prometheus").exists():
        shutil.rmtree(folder / "prometheus")  # rules that are no more would be loaded still
    for name in RENDERED:
        shutil.copytree(
            deploy_folder() / name,
            folder / name,
            ignore=shutil.ignore_patterns("tests", "targets", "secrets"),
            dirs_exist_ok=True,
        )
    for job, found in chosen.items():
        path = folder / "prometheus" / "targets" / f"{job}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_target_file(found), "utf-8")
        written.append(path)
    path = folder / "prometheus" / "prometheus.yml"
    text = _replaced(path.read_text("utf-8"), "^    runbooks: ", json.dumps(ops.runbooks))
    if local:
        for name in ("scrape_interval", "scrape_timeout"):
            text = _replaced(text, f"^  {name}: ", LOCAL_INTERVAL)
    else:
        written.append(_render_loki_rules(folder / "loki" / "rules", ops.runbooks))
    path.write_text(text, "utf-8")
    written.append(path)
    path = folder / "alertmanager" / "alertmanager.yml"
    path.write_text(_alertmanager(path.read_text("utf-8"), ops), "utf-8")
    # Empty, and closed to others, until somebody puts the secrets there.
    (folder / "alertmanager" / "secrets").mkdir(mode=0o700, exist_ok=True)
    return [*written, path]


def _target_file(found: Sequence[Target]) -> str:
    lines = [f"- {json.dumps({'targets': [t.address], 'labels': dict(t.labels)})}" for t in found]
    return "\n".join(["# Made by `marquee ops render` or `up`.", *(lines or ["[]"]), ""])


def _render_loki_rules(folder: Path, runbooks: str) -> Path:
    """Loki's rules, their links written out, in the folder where Loki looks when it has no tenants."""
    text = (deploy_folder() / "loki" / "rules" / "logs.yml").read_text("utf-8")
    path = folder / "fake" / "logs.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(f" {OpsSettings().runbooks}/", f" {runbooks}/"), "utf-8")
    return path


def _alertmanager(text: str, ops: OpsSettings) -> str:
    """The configuration with the settings in the places of what stands in the repository."""
    for pattern, value in _alertmanager_values(ops):
        text = _replaced(text, pattern, json.dumps(value))
    if ops.smtp_user is not None:
        password = str((ops.smtp_password_file or Path("secrets/smtp-password")).expanduser())
        login = f"  smtp_auth_username: {json.dumps(ops.smtp_user)}\n"
        login += f"  smtp_auth_password_file: {json.dumps(password)}\n"
        text = text.replace("  smtp_require_tls:", f"{login}  smtp_require_tls:", 1)
    return text


def _alertmanager_values(ops: OpsSettings) -> Iterator[tuple[str, Any]]:
    yield r"^  smtp_smarthost: ", ops.smtp
    yield r"^  smtp_from: ", ops.mail_from
    yield r"^  smtp_require_tls: ", ops.smtp_user is not None
    yield r"^      - to: ", ops.mail_to
    for kind, channel, file in (
        ("errors", ops.slack_errors_channel, ops.slack_errors_url_file),
        ("warnings", ops.slack_warnings_channel, ops.slack_warnings_url_file),
    ):
        yield rf'^        channel: (?="#marquee-{kind}"$)', channel
        if file is not None:
            yield (
                rf"^(?:      - |        )api_url_file: (?=secrets/slack-{kind}-url$)",
                str(file.expanduser()),
            )


def _replaced(text: str, pattern: str, value: str) -> str:
    """The one line that begins with a pattern gets another end."""
    done, count = re.subn(f"({pattern}).*$", lambda match: match[1] + value, text, flags=re.MULTILINE)
    assert count == 1, f"{pattern} occurs {count} times"  # the files are ours
    return done
