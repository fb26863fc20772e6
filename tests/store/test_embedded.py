import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from waiting import until

from marquee.config import Paths
from marquee.errors import StoreError
from marquee.store.embedded import EmbeddedServer

pytestmark = pytest.mark.integration

HOLD = """
import sys
from pathlib import Path
from marquee.config import LogSettings, Paths
from marquee.store.embedded import EmbeddedServer
from marquee.telemetry import configure_logs
configure_logs(LogSettings())  # standard output is for the URL
with EmbeddedServer.start(Paths(home=Path(sys.argv[1]))) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def paths(tmp_path: Path):
    """A fresh home whose server, if any is left, is stopped in the end."""
    made = Paths(home=tmp_path / "home")
    yield made
    if made.postgres.exists():
        with EmbeddedServer.start(made):
            pass


def holder(paths: Paths) -> subprocess.Popen[str]:
    """Another process that uses the server until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def server_pid(paths: Paths) -> int:
    return int((paths.postgres / "data" / "postmaster.pid").read_text().splitlines()[0])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def value(server: EmbeddedServer, query: str):
    with psycopg.connect(server.url) as connection:
        return connection.execute(query).fetchone()[0]


def test_cold_start_serves_and_close_stops(paths: Paths):
    with EmbeddedServer.start(paths) as server:
        assert value(server, "SELECT current_database()") == "marquee"
        assert value(server, "SHOW fsync") == "on"
        assert value(server, "SHOW listen_addresses") == ""
        pid = server_pid(paths)
    assert not alive(pid)
    server.close()


def test_second_share_adopts_and_the_last_to_leave_stops(paths: Paths):
    first = EmbeddedServer.start(paths)
    pid = server_pid(paths)
    with EmbeddedServer.start(paths) as second:
        assert server_pid(paths) == pid
        first.close()
        assert value(second, "SELECT 1") == 1
    assert not alive(pid)


def test_kill_of_server_and_parent_keeps_committed_rows(paths: Paths):
    process = holder(paths)
    url = process.stdout.readline().strip()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    pid = server_pid(paths)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not alive(pid))
    with EmbeddedServer.start(paths) as server:
        assert value(server, "SELECT value FROM kept") == 7


def test_server_of_a_killed_parent_is_adopted(paths: Paths):
    process = holder(paths)
    process.stdout.readline()
    pid = server_pid(paths)
    process.kill()
    process.communicate()
    assert alive(pid)
    with EmbeddedServer.start(paths) as server:
        assert server_pid(paths) == pid
        assert value(server, "SELECT 1") == 1
    assert not alive(pid)


def test_two_processes_starting_at_once_share_one_server(paths: Paths):
    processes = [holder(paths) for _ in range(2)]
    urls = {process.stdout.readline() for process in processes}
    assert len(urls) == 1
    assert urls != {""}
    pid = server_pid(paths)
    processes[0].communicate("")
    assert alive(pid)
    processes[1].communicate("")
    assert not alive(pid)
    assert [process.returncode for process in processes] == [0, 0]


def test_stale_pid_file_of_a_living_foreign_process_does_not_block(paths: Paths):
    with EmbeddedServer.start(paths):
        lines = (paths.postgres / "data" / "postmaster.pid").read_text().splitlines()
    lines[0] = str(os.getppid())
    for stale in ("data/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
        (paths.postgres / stale).write_text("\n".join(lines) + "\n")
    with EmbeddedServer.start(paths) as server:
        assert value(server, "SELECT 1") == 1


def test_interrupted_first_start_is_begun_again(paths: Paths):
    (paths.postgres / "data.new").mkdir(parents=True)
    (paths.postgres / "data.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedServer.start(paths) as server:
        assert value(server, "SELECT 1") == 1


def test_long_home_gets_a_private_socket_folder_elsewhere(tmp_path: Path):
    long = Paths(home=tmp_path / ("a" * 60) / ("b" * 60))
    with EmbeddedServer.start(long) as server:
        folder = Path(value(server, "SHOW unix_socket_directories"))
        assert folder.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    folder.rmdir()


def test_socket_folder_open_to_others_is_refused(tmp_path: Path):
    long = Paths(home=tmp_path / ("a" * 60) / ("c" * 60))
    with EmbeddedServer.start(long) as server:
        folder = Path(value(server, "SHOW unix_socket_directories"))
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="not a private folder"):
        EmbeddedServer.start(long)
    folder.rmdir()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_permissions_outside_the_home_stay_and_closed_parents_do_not_block(mode: int):
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        parent.chmod(mode)
        before = [(folder.stat().st_mode, folder.stat().st_uid) for folder in (parent, parent.parent)]
        with EmbeddedServer.start(Paths(home=parent / "home")) as server:
            assert value(server, "SELECT 1") == 1
        after = [(folder.stat().st_mode, folder.stat().st_uid) for folder in (parent, parent.parent)]
        assert after == before


@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests run as an ordinary user here")
def test_ordinary_user_starts_the_server_as_themselves(tmp_path: Path):
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    process = subprocess.run(
        [*as_user, sys.executable, "-c", HOLD, str(tmp_path / "home")],
        input="",
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("postgresql://")


def test_start_failure_quotes_the_server(paths: Paths):
    with EmbeddedServer.start(paths):
        pass
    settings = paths.postgres / "data" / "postgresql.auto.conf"
    kept = settings.read_text()
    settings.write_text("max_connections = 'many'\nno_such_setting = on\n")
    with pytest.raises(StoreError, match="did not start"):
        EmbeddedServer.start(paths)
    settings.write_text(kept)


def test_socket_is_a_file_in_the_home(paths: Paths):
    with EmbeddedServer.start(paths) as server:
        folder = Path(value(server, "SHOW unix_socket_directories"))
        assert folder == paths.postgres / "socket"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / ".s.PGSQL.5432"))
