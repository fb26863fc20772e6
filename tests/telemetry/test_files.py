import io
import json
import logging
import subprocess
import sys
import threading

import pytest

from marquee.config import LogSettings
from marquee.errors import ConfigError
from marquee.telemetry import bound_everywhere, configure_logs, get_logger, log_request

OTHER = """
import sys
from pathlib import Path
from marquee.config import LogSettings
from marquee.telemetry import configure_logs, get_logger
configure_logs(LogSettings(file=Path(sys.argv[1])), server=True)
get_logger().info("other.ready")
sys.stdin.read()
"""


def configured(**settings):
    stream = io.StringIO()
    configure_logs(LogSettings(**settings), stream=stream, server=True)
    return stream


def lines_of(path):
    for handler in logging.getLogger().handlers:
        handler.flush()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_lines_of_both_roads_are_in_the_file_as_in_the_stream(tmp_path):
    file = tmp_path / "logs" / "marquee.log"
    stream = configured(file=file)
    log_request("api.request", {"path": "/é", "request_id": "r"})
    get_logger().warning("said", word="wörd")
    logging.getLogger("elsewhere").error("from a library")
    found = lines_of(file)
    assert [line["event"] for line in found] == ["api.request", "said", "from a library"]
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [{**line, "timestamp": ""} for line in found] == [{**line, "timestamp": ""} for line in written]


def test_file_is_json_where_people_read_the_stream(tmp_path):
    file = tmp_path / "marquee.log"
    stream = configured(file=file, format="console")
    log_request("api.request", {"path": "/x"})
    assert [line["path"] for line in lines_of(file)] == ["/x"]
    assert not stream.getvalue().startswith("{")


def test_files_rotate_and_the_oldest_go(tmp_path):
    file = tmp_path / "marquee.log"
    configured(file=file, file_mib=0.001, files=2)
    for number in range(100):
        log_request("api.request", {"number": number})
        get_logger().info("said", number=number)
    newest = lines_of(file)
    names = {"marquee.log", "marquee.log.1", "marquee.log.2"}
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == names
    assert all(path.stat().st_size <= 1500 for path in tmp_path.iterdir())
    assert newest[-1]["number"] == 99


def test_command_writes_no_file(tmp_path):
    configure_logs(LogSettings(file=tmp_path / "marquee.log"), stream=io.StringIO())
    get_logger().warning("said")
    assert list(tmp_path.iterdir()) == []


def test_each_process_has_a_file_and_its_name_is_free_afterwards(tmp_path):
    file = tmp_path / "marquee.log"
    configured(file=file)
    command = [sys.executable, "-c", OTHER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert json.loads(other.stdout.readline())["event"] == "other.ready"
        get_logger().info("here")
        other.communicate()
    assert [line["event"] for line in lines_of(tmp_path / "marquee-2.log")] == ["other.ready"]
    assert [line["event"] for line in lines_of(file)] == ["here"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    assert len(lines_of(tmp_path / "marquee-2.log")) == 2
    configured(file=file)  # once more in the same process
    assert not (tmp_path / "marquee-3.log").exists()


def test_file_that_cannot_be_written_stops_the_start_and_names_the_setting(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="MARQUEE_LOG__FILE"):
        configured(file=tmp_path / "taken" / "marquee.log")


def test_stream_that_is_gone_fails_no_request(tmp_path, capfd):
    stream = configured(file=tmp_path / "marquee.log")
    stream.close()
    log_request("api.request", {"path": "/x"})
    assert "closed file" in capfd.readouterr().err


def test_lines_of_all_threads_say_what_is_bound_everywhere(tmp_path):
    file = tmp_path / "marquee.log"
    configured(file=file)
    with bound_everywhere(run_id="r"), bound_everywhere(pipeline="p"):
        thread = threading.Thread(target=lambda: logging.getLogger("elsewhere").warning("in a thread"))
        thread.start()
        thread.join()
        get_logger().info("of another", run_id="own")
    get_logger().info("after")
    first, own, after = lines_of(file)
    assert (first["run_id"], first["pipeline"]) == ("r", "p")
    assert own["run_id"] == "own"
    assert "run_id" not in after
