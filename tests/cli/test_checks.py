import socket
from pathlib import Path

import pytest
from free_ports import free_port

from marquee.cli.checks import Check, run_checks
from marquee.config import Settings
from marquee.store.postgres import Database
from marquee.store.repositories import deployments

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"port": free_port()})


def checked(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in run_checks(settings)}


def test_fresh_home_is_fit_and_its_notes_say_what_is_missing(settings: Settings) -> None:
    checks = checked(settings)
    assert [name for name, check in checks.items() if check.state == "failed"] == []
    assert checks["TMDB key"].state == checks["model"].state == "note"
    assert "marquee pipeline run" in str(checks["model"].fix)


def test_taken_port_fails_and_names_the_setting(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port))  # bound, not listening: it cannot be taken for Marquee
        check = checked(settings)["port"]
    assert check.state == "failed"
    assert "MARQUEE_PORT" in str(check.fix)


def test_home_below_a_file_fails(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = checked(settings.model_copy(update={"home": tmp_path / "file" / "home"}))
    assert checks["home"].state == checks["object store"].state == "failed"
    assert "MARQUEE_HOME" in str(checks["home"].fix)


def test_unreachable_database_fails_without_its_password(settings: Settings) -> None:
    unreachable = Settings(
        home=settings.home, port=settings.port, database={"url": "postgresql://u:hidden@127.0.0.1:1/x"}
    )
    checks = checked(unreachable)
    assert checks["database"].state == "failed"
    assert "MARQUEE_DATABASE__URL" in str(checks["database"].fix)
    assert "hidden" not in repr(checks)


def test_deployed_bundle_that_is_gone_fails_its_slot(settings: Settings, database: Database) -> None:
    with database.begin() as connection:
        deployments.append(
            connection,
            "champion",
            bundle=f"bundles/popularity/1/{'0' * 64}.manifest.json",
            digest="0" * 64,
            model="popularity",
            deployed_by="test",
            reason="test",
        )
    check = checked(settings)["champion"]
    assert check.state == "failed"
    assert "marquee pipeline run" in str(check.fix)
