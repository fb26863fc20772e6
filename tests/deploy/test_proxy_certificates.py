"""The edge's certificates and configuration; nothing has to be behind it."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from neighbours import PROXY, connected

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def bare_edge(run_caddy):
    with run_caddy("Caddyfile") as edge:
        yield edge


def test_container_is_well_without_anything_behind_it(bare_edge):
    assert httpx.get(bare_edge.health, trust_env=False).status_code == 200


def test_old_tls_is_refused_and_new_is_spoken(bare_edge):
    assert tls_version(bare_edge, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert tls_version(bare_edge, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionError)):
        tls_version(bare_edge, ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize(
    ("tls", "issuers"),
    [
        ("", None),
        ("ops@example.org", ["acme", "zerossl"]),
        ("internal", ["internal"]),
        ("/own.pem /own.key", None),
    ],
)
def test_certificates_come_from_where_the_variable_says(tmp_path, missing, tls, issuers):
    adapted = adapt(tmp_path, missing, SITE_ADDRESS="films.example.org, www.example.org", SITE_TLS=tls)
    config = adapted["apps"].get("tls", {})
    assert ("load_files" in config.get("certificates", {})) == tls.startswith("/")
    policies = config.get("automation", {}).get("policies", [])
    found = [issuer["module"] for policy in policies for issuer in policy["issuers"]]
    assert found == (issuers or [])
    [site] = [
        server for server in adapted["apps"]["http"]["servers"].values() if server["listen"] == [":443"]
    ]
    assert all(p.get("protocol_min", "tls1.2") == "tls1.2" for p in site["tls_connection_policies"])
    assert "/" not in str(adapted["admin"]["listen"])


def test_behind_a_balancer_that_ends_tls_the_site_may_be_plain_http(tmp_path, missing):
    """Whatever there is to say of certificates: Compose always says something."""
    adapted = adapt(
        tmp_path, missing, SITE_ADDRESS="http://films.example.org", SITE_SCHEME="http", SITE_TLS="internal"
    )
    assert "tls" not in adapted["apps"]
    servers = adapted["apps"]["http"]["servers"].values()
    assert sorted(server["listen"] for server in servers) == [["127.0.0.1:2020"], [":80"]]
    assert not any("tls_connection_policies" in server for server in servers)
    [site] = [server for server in servers if server["listen"] == [":80"]]
    # Who asks for another name, or none, is led to https as ever.
    assert [route.get("match") for route in site["routes"]] == [[{"host": ["films.example.org"]}], None]


def test_who_names_no_site_gets_its_certificate(bare_edge):
    """As whoever comes by an IP address; within a container that is not its own."""
    context = ssl.create_default_context(cafile=bare_edge.authority)
    context.check_hostname = False
    address = ("127.0.0.1", urlsplit(bare_edge.url).port)
    with socket.create_connection(address) as plain, context.wrap_socket(plain) as secured:
        certificate = secured.getpeercert()
    assert certificate["subjectAltName"] == (("DNS", "localhost"),)


def test_documented_variables_are_those_of_the_file_and_of_compose():
    page = (PROXY.parents[1] / "docs" / "proxy.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| (\S+) \|", page, re.MULTILINE)
    defaults = dict(re.findall(r"\{\$([A-Z_]+):?([^}]*)\}", (PROXY / "Caddyfile").read_text()))
    assert {name: default.strip("`–") for name, _, default in rows} == defaults
    compose = yaml.safe_load((PROXY.parent / "compose" / "controltower.yml").read_text())
    given = compose["services"]["proxy"]["environment"]
    for name, of_env, _ in rows:
        by_env = given.get(name, "") is None or "${MARQUEE_" in given.get(name, "")
        assert (of_env != "–") == (by_env and not name.endswith("_UPSTREAM")), name
        assert of_env == "–" or of_env.strip("`") in (given[name] or name)


def test_files_are_formatted(missing):
    caddy = shutil.which("caddy") or missing("caddy")
    for name in ("Caddyfile", "site.Caddyfile"):
        formatted = subprocess.run([caddy, "fmt", PROXY / name], capture_output=True, text=True).stdout
        assert formatted == (PROXY / name).read_text(), f"caddy fmt --overwrite {name}"


def tls_version(edge, version):
    context = ssl.create_default_context(cafile=edge.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with connected(edge, context) as connection:
        return connection.version()


def adapt(tmp_path, missing, **environment):
    """What Caddy makes of the edge's file."""
    caddy = shutil.which("caddy") or missing("caddy")
    (tmp_path / "users").write_text("ops $2a$04$x\n")
    environment |= {"PROXY_USERS_FILE": str(tmp_path / "users"), "HOME": str(tmp_path)}
    command = [caddy, "adapt", "--config", PROXY / "Caddyfile", "--adapter", "caddyfile"]
    return json.loads(
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True).stdout
    )
