"""What the API makes of a database that does not do as asked."""

import pytest
from sqlalchemy import Connection, text

from marquee.errors import StoreBusyError, StoreUnavailableError

pytestmark = pytest.mark.integration


def failing(connection: Connection, state: str) -> None:
    query = f"DO $$ BEGIN RAISE EXCEPTION 'something' USING ERRCODE = '{state}'; END $$"
    connection.exec_driver_sql(query)


def slow(connection: Connection) -> None:
    connection.execute(text("SELECT pg_sleep(1.2)"))


async def test_database_that_could_not_do_one_thing_is_not_lost(services):
    for state in ("40P01", "53100", "55P03"):
        with pytest.raises(StoreBusyError):
            await services.run(failing, state)
        assert services.database_is_up
    with pytest.raises(StoreUnavailableError):
        await services.run(failing, "57P03")
    assert not services.database_is_up


async def test_statement_of_the_api_takes_no_longer_than_is_set_but_for_long_ones(
    settings, database, running
):
    settings.database.statement_timeout_seconds = 1
    settings.api.database_seconds = 30
    async with running(settings) as (_, app):
        services = app.state.services
        with pytest.raises(StoreBusyError, match="statement timeout"):
            await services.run(slow)
        await services.run_long(slow)
        assert services.database_is_up
