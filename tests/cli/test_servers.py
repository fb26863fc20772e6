import pytest

from marquee.cli.servers import _ops_port
from marquee.config import Settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"port": 8000}, ["--ops-port", "8001"]),
        ({"port": 8000, "api": {"ops_port": 8001}}, ["--ops-port", "8002"]),
        ({"port": 8000, "worker": {"ops_port": 9100}}, []),
        ({"port": 65535}, []),
    ],
)
def test_up_gives_the_worker_the_port_behind_the_api_unless_it_has_one(settings, expected):
    assert _ops_port(Settings(**settings)) == expected
