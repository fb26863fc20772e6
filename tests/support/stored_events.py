"""Events that have happened, for tests that begin with some: stored as the API stores them, and read back."""

from collections.abc import Sequence

import psycopg
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, text

from marquee.data import Event
from marquee.errors import ErasedUserError
from marquee.store.repositories import feedback, interactions
from marquee.store.repositories.interactions import NewEvent


def append_events(connection: Connection, events: Sequence[NewEvent]) -> list[bool]:
    """
    Append events in the caller's transaction, by the statements that the API sends.

    Returns:
        Of each whether it is new, or was there already by its key.

    Raises:
        ErasedUserError: one of the users is erased; nothing is appended.
    """
    if not events:
        return []
    connection.execute(text("SELECT 1"))  # begins the transaction: libpq, which is asked next, does not
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    results = []
    for statement, given in feedback.append([events], new_users=sorted({event.user_id for event in events})):
        result = driver.pgconn.exec_params(statement, given, None, [1] * len(given), 1)
        assert result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}, result.error_message
        if result.status == ExecStatus.TUPLES_OK:
            results.append(result)
    appended = feedback.appended([events], results)[0]
    if appended.erased is not None:
        raise ErasedUserError(f"The user {appended.erased} is erased.")
    return list(appended.is_new)


def seen_items(connection: Connection, user_id: int) -> set[int]:
    """The items that a user has seen or hidden; a click alone is neither."""
    history = interactions.user_history(connection, user_id, limit=10_000)
    return set(history.item_ids[history.events != Event.CLICK].tolist())
