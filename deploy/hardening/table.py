"""
The port table for one host, as rules of UFW and of Docker's chain.

It runs by the Python of a fresh Ubuntu or Debian, so it needs nothing but that. What it reads of the
environment is said by `apply --help`.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

Network = IPv4Network | IPv6Network
Hosts = dict[str, list[dict[str, Any]]]

HOSTS = Path(__file__).resolve().parent.parent / "hosts.json"
CONTAINERS = ("docker0", "br-+")
"""The interfaces that containers of this host come from, as UFW and iptables write them."""
NARROW = {4: 24, 6: 64}
"""Bits of a network whose every address may be trusted not to guess passwords."""


def check() -> None:
    """Say what is wrong with role, peers or administrators."""
    list(_grants())


def ufw() -> Iterator[str]:
    """Arguments of `ufw`, one rule a line, as `ufw show added` writes them."""
    for port, what, sources in _grants():
        for source in sources:
            if source == "everyone":
                rule = f"allow {port}/tcp"
            elif isinstance(source, str):
                rule = f"allow in on {source} to any port {port} proto tcp"
            else:
                rule = f"allow from {_short(source)} to any port {port} proto tcp"
            yield f"{rule} comment 'marquee: {what}'"


def docker(version: str) -> Iterator[str]:
    """
    What iptables-restore makes of Docker's chain, for IP version 4 or 6.

    Published ports are forwarded, so they never come by UFW's rules of input. Docker has by then replaced the
    port of the packet by the container's, so that the published one is known to connection tracking only.
    """
    yield "*filter"
    yield ":DOCKER-USER - [0:0]"
    yield "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    for interface in CONTAINERS:
        yield f"-A DOCKER-USER -i {interface} -j RETURN"
    for port, _, sources in _grants():
        published = f"-p tcp -m conntrack --ctdir ORIGINAL --ctorigdstport {port} -j RETURN"
        for source in sources:
            if source == "everyone":
                yield f"-A DOCKER-USER {published}"
            elif not isinstance(source, str) and source.version == int(version):
                yield f"-A DOCKER-USER -s {source} {published}"
    yield "-A DOCKER-USER -j DROP"
    yield "COMMIT"


def trusted() -> Iterator[str]:
    """Addresses that are never banned: peers, and administrators whose network is small."""
    role = os.environ["MARQUEE_ROLE"]
    peers = {source for row in _load()[role] for source in row["from"]} - {role, "administrators", "everyone"}
    networks = [network for peer in sorted(peers) for network in _networks(_variable(peer))]
    networks += [one for one in _networks("MARQUEE_ADMINS") if one.prefixlen >= NARROW[one.version]]
    yield from dict.fromkeys(_short(network) for network in networks)


def within(address: str) -> None:
    """Fail unless an address is one of an administrator, or of the host itself, which no rule concerns."""
    one = ip_address(address.partition("%")[0])
    one = getattr(one, "ipv4_mapped", None) or one
    if not one.is_loopback and not any(one in network for network in _networks("MARQUEE_ADMINS")):
        sys.exit(1)


def administered() -> Iterator[str]:
    """The ports that are open to administrators."""
    for row in _load()[os.environ["MARQUEE_ROLE"]]:
        if "administrators" in row["from"]:
            yield str(row["port"])


def public() -> None:
    """Fail unless this role has a port that is open to everyone."""
    if not any("everyone" in sources for _, _, sources in _grants()):
        sys.exit(1)


def _grants() -> Iterator[tuple[int, str, list[str | Network]]]:
    """Ports of this role: what listens there, and who may: `everyone`, an interface, or a network."""
    role = os.environ["MARQUEE_ROLE"]
    hosts = _load()
    if role not in hosts:
        _refuse(f"'{role}' is no role. Give --role with one of: {', '.join(hosts)}.")
    for row in hosts[role]:
        sources: list[str | Network] = []
        for source in row["from"]:
            if source == "everyone":
                sources.append(source)
            elif source == role:
                sources.extend(CONTAINERS)
            elif source == "administrators":
                sources.extend(_networks("MARQUEE_ADMINS"))
            elif networks := _networks(_variable(source)):
                sources.extend(networks)
            else:
                _refuse(
                    f"{role} opens port {row['port']} to {source}, whose address is not given. "
                    f"Give --peers {source}=ADDRESS, or set {_variable(source)}."
                )
        yield row["port"], row["what"], sources


def _load() -> Hosts:
    hosts: Hosts = json.loads(HOSTS.read_text())
    return hosts


def _variable(role: str) -> str:
    return f"MARQUEE_{role.upper()}"


def _networks(variable: str) -> list[Network]:
    found = []
    for text in re.split(r"[\s,]+", os.environ.get(variable, "").strip()):
        try:
            if text:
                found.append(ip_network(text))
        except ValueError as error:
            _refuse(f"{variable}: {error}. Write an address (10.0.0.11) or a network (10.0.0.0/24).")
    return found


def _short(network: Network) -> str:
    """As UFW writes it: a network of one address without its length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _refuse(why: str) -> None:
    sys.exit(f"apply: {why}")


COMMANDS: dict[str, Callable[..., Iterator[str] | None]] = {
    "check": check,
    "ufw": ufw,
    "docker": docker,
    "trusted": trusted,
    "within": within,
    "administered": administered,
    "public": public,
}

if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in COMMANDS[sys.argv[1]](*sys.argv[2:]) or ())
