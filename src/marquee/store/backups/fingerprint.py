"""What tells whether two databases hold the same: a digest of all rows of each table."""

import hashlib

from psycopg import Connection, sql

from marquee.store.backups.layout import CUTS, order_of, tables_to_back_up
from marquee.store.postgres import Database

__all__ = ["fingerprint"]


def fingerprint(database: Database) -> dict[str, str]:
    """Table → SHA-256 of its rows in PostgreSQL's binary format, every column of them."""
    with database.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, Connection)
        found = {}
        for table in tables_to_back_up():
            names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
            order = sql.SQL(order_of(table, CUTS.get(table.name)))
            query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT (FORMAT BINARY)")
            digest = hashlib.sha256()
            statement = query.format(names, sql.Identifier(table.name), order)
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                for part in copy:
                    digest.update(part)
            found[table.name] = digest.hexdigest()
    return found
