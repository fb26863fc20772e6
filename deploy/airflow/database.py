"""
Holds Airflow's database while Airflow runs; run by the Python that has Marquee, for run_airflow.py.

Beside Marquee's own database, on the server that Marquee uses: the embedded one is started, or shared with
`marquee up`, and stays until standard input closes. What run_airflow.py has to know is one line of JSON.
"""

import json
import sys
from contextlib import ExitStack

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from marquee.cli.session import open_settings
from marquee.errors import MarqueeError
from marquee.store.embedded import EmbeddedServer

NAME = "airflow"


def main() -> None:
    """Make the database if need be, say where it is, and wait."""
    settings = open_settings()
    with ExitStack() as stack:
        if settings.database.url is None:
            server = stack.enter_context(EmbeddedServer.start(settings.paths))
            marquee, url = server.url, server.url_of(NAME)
        else:
            marquee = settings.database.url.get_secret_value()
            url = make_url(marquee).set(database=NAME).render_as_string(hide_password=False)
        with psycopg.connect(marquee, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        api = f"http://127.0.0.1:{settings.port}"
        sys.stdout.write(json.dumps({"home": str(settings.home), "database": url, "api": api}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # ends with run_airflow.py, however that ends


if __name__ == "__main__":
    try:
        main()
    except MarqueeError as error:
        sys.exit(f"{error.message} {error.fix or ''}")
    except psycopg.Error as error:
        sys.exit(f"The database {NAME!r} cannot be made: {error}")
