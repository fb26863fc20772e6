"""Commands of Compose that the documentation shows speak of services that there are."""

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "deploy/compose"
FILES = ("workhorse", "controltower", "nervous", "agent")
SERVICES = {
    name
    for file in FILES
    for name in yaml.safe_load((COMPOSE / f"{file}.yml").read_text("utf-8"))["services"]
}
COMMAND = re.compile(
    r"docker compose (?:-f \S+ )?(?:exec|run|restart|cp|logs|up)"
    r"(?: (?:--since \S+|--tail \d+|--entrypoint \S+|-{1,2}[\w-]+))* ([a-z][\w-]+)"
)
"""After its options stands the service."""
NAMED = sorted(
    {
        (page.relative_to(REPOSITORY).as_posix(), service)
        for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
        for service in COMMAND.findall(page.read_text("utf-8"))
    }
)


@pytest.mark.parametrize(("page", "service"), NAMED, ids=lambda value: value)
def test_service_of_a_documented_command_exists(page: str, service: str) -> None:
    assert service in SERVICES, page


def test_commands_are_found() -> None:
    assert {service for _, service in NAMED} >= {
        "api",
        "worker",
        "prometheus",
        "alertmanager",
        "postgres",
        "migrate",
    }
