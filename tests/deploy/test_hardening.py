"""Three hosts and one that is all of them, hardened for real, and what others then reach of them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import until

sys.path.insert(0, str(Path(__file__).parent))
from network import ENVIRONMENT, NEEDED, REPOSITORY, Host, Network, UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TABLE: dict[str, list[dict[str, Any]]] = json.loads((REPOSITORY / "deploy/hosts.json").read_text())
ROLES = {"workhorse": 11, "controltower": 12, "nervous": 13}
"""Last byte of the address of each host."""
UNLISTED = (25, 111, 2375, 5432, 8088, 9000, 9090)
PORTS = sorted({row["port"] for rows in TABLE.values() for row in rows} | set(UNLISTED))
ADMINS = ("10.77.1.0/24", "fd77::100/120")
PEERS = [f"{role}=10.77.0.{number}" for role, number in ROLES.items()]
GIVEN = ("--admins", *ADMINS, "--peers", *PEERS)
SITE = {
    "SITE_ADDRESS": "10.77.0.12",
    "SITE_TLS": "internal",
    "HTTP_PORT": "81",
    "HTTPS_PORT": "444",
    "MLFLOW_UPSTREAM": "127.0.0.1:1",
    "PROXY_USERS_FILE": "/etc/proxy-users",
}
NO_ADMINISTRATOR = "No user with an SSH key here can become root by sudo"


class Estate:
    """The hosts, who is not one of them, and what `apply` said when it first ran on each."""

    def __init__(self, network: Network) -> None:
        self.hosts = {role: network.join(role, number) for role, number in ROLES.items()}
        self.hosts["all-in-one"] = network.join("all-in-one", 14)
        self.administrator = network.join("administrator", 0x101, kind="client")
        self.outside = network.join("outside", 0x909, kind="client")
        self.containers = {role: network.container(host) for role, host in self.hosts.items()}
        for host in self.hosts.values():
            # Whoever administers it; and what a cloud's image may bring.
            host.run("useradd", "--create-home", "--groups", "sudo", "--shell", "/bin/sh", "deploy")
            host.run("sh", "-c", "umask 77; mkdir ~deploy/.ssh; ssh-keygen -qt ed25519 -N '' -f /root/key;"
                     "cp /root/key.pub ~deploy/.ssh/authorized_keys; chown -R deploy: ~deploy")  # fmt: skip
            host.write("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n")
            host.run("chpasswd", stdin="deploy:secret")
            host.run("ssh-keygen", "-A")
            host.run("ufw", "allow", "5432/tcp")
        before = {role: state(host) for role, host in self.hosts.items()}
        self.plans = {role: apply(host, role, "--dry-run") for role, host in self.hosts.items()}
        self.changed_by_plan = [role for role, host in self.hosts.items() if state(host) != before[role]]
        runs = {role: host.start(*applied(role), stdout=subprocess.PIPE) for role, host in self.hosts.items()}
        self.said = {role: run.communicate()[0] for role, run in runs.items()}
        assert {run.returncode for run in runs.values()} == {0}

    def sources(self) -> Iterator[tuple[str, Host]]:
        """All who may try."""
        yield from self.hosts.items()
        yield "administrators", self.administrator
        yield "outside", self.outside


@pytest.fixture(scope="module")
def estate(
    missing: Callable[[str], None], not_run: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Estate]:
    """Hardened hosts on a network of their own."""
    try:
        with Network(tmp_path_factory.mktemp("hosts")) as network:
            search = os.pathsep.join([os.environ["PATH"], ENVIRONMENT["PATH"]])
            lacking = [package for name, package in NEEDED.items() if not shutil.which(name, path=search)]
            if lacking:
                missing(f"packages of Debian: {' '.join(lacking)}")
            yield Estate(network)
    except UnavailableError as error:
        not_run("Network namespaces", str(error))


def applied(role: str, *more: str) -> list[str]:
    """The command that hardens a host of a role."""
    return ["/opt/marquee/deploy/hardening/apply", "--role", role, *GIVEN, *more]


def apply(host: Host, role: str, *more: str) -> str:
    """Run it, and give what it said."""
    return str(host.run(*applied(role, *more)).stdout)


def state(host: Host) -> str:
    """Everything of a host that hardening may change."""
    files = "find /etc -newer /root/key -type f ! -name 'g*' -exec sha256sum {} +; readlink /etc/localtime"
    rules = "iptables-save | grep '^-A'; ip6tables-save | grep '^-A'; sysctl -a --pattern 'net\\.ipv.\\.conf'"
    return str(host.run("sh", "-c", f"{files}; {rules}").stdout)


def planned(plan: str) -> dict[str, list[tuple[str, str]]]:
    """What --dry-run says, by kind: what it is about, and the text indented under it."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    kind = ""
    for line in plan.splitlines(keepends=True):
        if line.startswith("  | "):
            what, text = kinds[kind].pop()
            kinds[kind].append((what, text + line[4:]))
        elif not line.startswith("#"):
            kind, _, what = line.rstrip("\n").partition("  ")
            kinds.setdefault(kind, []).append((what, ""))
    return kinds


def is_open(host: str, port: int, source: str) -> bool:
    """What the table says."""
    granted = [row["from"] for row in TABLE[host] if row["port"] == port]
    return any(source in sources or "everyone" in sources for sources in granted)


def reached(estate: Estate, *, ports: list[int] = PORTS, version: int = 4) -> list[str]:
    """Try every port of every host from every other: what is not as the table says."""
    tried = []
    for source, prober in estate.sources():
        # Peers are named by IPv4, so by IPv6 they are strangers.
        known = "outside" if version == 6 and source in TABLE else source
        targets = [
            (server.address if version == 4 else server.address6, port, is_open(host, port, known))
            for host, server in estate.hosts.items()
            for port in ports
            if host != source
        ]
        tried.append((source, targets, prober.attempting(targets)))
    return [
        f"{address}:{port} from {source}: {found}"
        for source, targets, answers in tried
        for (address, port, opened), found in zip(targets, answers(), strict=True)
        if found != ("open" if opened else "dropped")
    ]


@pytest.fixture(scope="module")
def listening(estate: Estate) -> Estate:
    """The same, with somebody who answers on every port of the table and on others."""
    for host in estate.hosts.values():
        host.listen(PORTS)
    return estate


def test_ports_are_open_as_documented_and_nothing_else_answers(listening: Estate) -> None:
    """Every port × host × source."""
    assert reached(listening) == []


def test_ipv6_is_closed_but_for_everyone_and_administrators(listening: Estate) -> None:
    assert reached(listening, version=6) == []


def test_a_host_reaches_what_it_listens_on_itself(listening: Estate) -> None:
    for host in listening.hosts.values():
        assert set(host.attempts([("127.0.0.1", 5432, True), (host.address, 9090, True)])) == {"open"}


def test_containers_reach_the_agents_where_the_table_says_itself(listening: Estate) -> None:
    """Prometheus is in a container on the very host whose exporters it asks."""
    tried = []
    for role, container in listening.containers.items():
        address = listening.hosts[role].address
        targets = [(address, port, is_open(role, port, role)) for port in (9100, 12345, 5432, 22)]
        tried.append((role, targets, container.attempting(targets)))
    for role, targets, answers in tried:
        assert answers() == ["open" if opened else "dropped" for *_, opened in targets], role


def publish(host: Host, inner_port: int = 1234) -> None:
    """Publish all ports by a container's one, with the chains and rules that Docker 20.10 makes."""
    nat = [f"-A DOCKER -p tcp --dport {port} ! -i br-marquee -j DNAT --to-destination 172.30.0.2:{inner_port}"
           for port in PORTS]  # fmt: skip
    host.run("iptables-restore", "--noflush", stdin="\n".join([
        "*nat", ":DOCKER - [0:0]", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", *nat,
        "-A POSTROUTING -s 172.30.0.0/24 ! -o br-marquee -j MASQUERADE", "COMMIT", ""]))  # fmt: skip
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    host.run("iptables-restore", "--noflush", stdin="\n".join([
        "*filter", ":DOCKER - [0:0]",
        f"-A DOCKER -d 172.30.0.2/32 ! -i br-marquee -o br-marquee -p tcp --dport {inner_port} -j ACCEPT",
        "-I FORWARD -i br-marquee -o br-marquee -j ACCEPT",
        "-I FORWARD -i br-marquee ! -o br-marquee -j ACCEPT",
        "-I FORWARD -o br-marquee -j DOCKER",
        "-I FORWARD -o br-marquee -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-I FORWARD -j DOCKER-USER", "COMMIT", ""]))  # fmt: skip


def test_published_ports_of_containers_obey_the_same_table(listening: Estate) -> None:
    """They are forwarded, past all rules of input; and the packet's port is by then the container's."""
    for role, container in listening.containers.items():
        container.listen([1234])
        publish(listening.hosts[role])
    try:
        assert reached(listening) == []
        for reload in [
            host.start("ufw", "reload", stdout=subprocess.PIPE) for host in listening.hosts.values()
        ]:
            reload.communicate()
            assert reload.returncode == 0
        assert reached(listening, ports=[5432, 8000, 3100, 443]) == []
        # Nor is a container reached by its own address, by a neighbour who knows a way.
        listening.outside.run("ip", "route", "add", "172.30.0.0/24", "via", "10.77.0.12")
        assert listening.outside.attempts([("172.30.0.2", 1234, False)]) == ["dropped"]
        # It may ask others, as a neighbour: by its host's address.
        api = (listening.hosts["workhorse"].address, 8000, True)
        assert listening.containers["nervous"].attempts([api]) == ["open"]
    finally:
        for host in listening.hosts.values():
            host.run("iptables", "-t", "nat", "-F")


def test_dry_run_prints_what_is_applied_and_changes_nothing(estate: Estate) -> None:
    assert estate.changed_by_plan == []
    for role, host in estate.hosts.items():
        plan = planned(estate.plans[role])
        assert set(plan) == {"file", "link", "package", "service", "policy", "rule", "block", "keys"}
        rules = [f"ufw {what}" for what, _ in plan["rule"]]
        added = host.run("ufw", "show", "added").stdout.splitlines()[1:]
        assert sorted(added) == sorted(rules), role
        for what, text in plan["file"]:
            path, mode = what.split()
            assert host.read(path) == text
            assert host.run("stat", "-c", "%a", path).stdout.strip() == mode
        for path, text in plan["block"]:
            assert host.read(path).endswith(f"COMMIT\n{text}")
        for path, text in plan["keys"]:
            assert json.loads(host.read(path)).items() >= json.loads(text).items()
        status = host.run("ufw", "status", "verbose").stdout
        assert "Default: deny (incoming), allow (outgoing), deny (routed)" in status
        for path, text in plan["block"]:
            chain = host.run("ip6tables" if "6" in path else "iptables", "-S", "DOCKER-USER").stdout
            wanted = [line for line in text.splitlines() if line.startswith("-A")]
            assert [sorted(line.split()) for line in chain.splitlines()[1:]] == [
                sorted(line.split()) for line in wanted
            ]
        assert "5432" not in status
        assert "changed  no rule allow 5432/tcp" in estate.said[role]


def test_a_second_run_changes_nothing_and_says_so(estate: Estate) -> None:
    for role, host in estate.hosts.items():
        before = state(host)
        said = apply(host, role)
        assert "changed" not in said
        assert f"Nothing to change: this host is already as {role} should be." in said
        assert state(host) == before


def test_what_a_broken_off_run_left_is_taken_up_by_the_next(estate: Estate) -> None:
    """A file that is in place already says nothing of whether its reader has seen it."""
    host = estate.hosts["workhorse"]
    host.run("sysctl", "-q", "-w", "net.ipv4.conf.all.send_redirects=1")
    host.run("iptables", "-F", "DOCKER-USER")
    host.run("touch", "/run/marquee-hardening/sysctl", "/run/marquee-hardening/ufw")
    assert "Nothing to change" in apply(host, "workhorse")
    assert host.run("sysctl", "-n", "net.ipv4.conf.all.send_redirects").stdout == "0\n"
    assert "-j DROP" in host.run("iptables", "-S", "DOCKER-USER").stdout
    assert host.run("ls", "/run/marquee-hardening").stdout == ""


def test_a_peer_that_moved_replaces_the_one_that_was(estate: Estate) -> None:
    host = estate.hosts["nervous"]
    said = apply(host, "nervous", "--only", "firewall", "--peers", "workhorse=10.77.0.99,fd77::99")
    assert "changed  rule allow from 10.77.0.99 to any port 9093 proto tcp comment 'marquee: Al" in said
    assert "changed  rule allow from fd77::99 to any port 9093" in said
    assert "changed  no rule allow from 10.77.0.11 to any port 9093 proto tcp" in said
    assert "-s 10.77.0.99/32" in host.run("iptables", "-S", "DOCKER-USER").stdout
    assert "-s fd77::99/128" in host.run("ip6tables", "-S", "DOCKER-USER").stdout
    apply(host, "nervous", "--only", "firewall")
    assert "10.77.0.99" not in host.run("iptables-save").stdout


def test_ssh_takes_keys_of_users_and_nothing_else(estate: Estate, tmp_path: Path) -> None:
    """By a real sshd; what a cloud's image says of passwords comes later, and so does not count."""
    host = estate.hosts["workhorse"]
    host.run("sh", "-c", "mkdir -p /root/.ssh /run/sshd; cp /root/key.pub /root/.ssh/authorized_keys")
    # The listeners of other tests may have port 22.
    host.run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "2022", "-j", "ACCEPT")
    host.write("/var/log/sshd.log", "")
    server = host.start("/usr/sbin/sshd", "-D", "-p", "2022", "-E", "/var/log/sshd.log")
    key = tmp_path / "key"
    key.write_text(host.read("/root/key"))
    key.chmod(0o600)

    def ssh(user: str, *options: str) -> tuple[Any, str]:
        """Log in, and say which addresses fail2ban counts a failure of by what the server then logs."""
        given = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes",
                 "IdentitiesOnly=yes", "LogLevel=ERROR", "Port=2022")  # fmt: skip
        host.write("/var/log/sshd.log", "")
        command = ["ssh", "-F", "none", *(f"-o{one}" for one in given), *options, f"{user}@{host.address}"]
        answer = estate.administrator.run(*command, "id -un", check=False)
        until(lambda: re.search("Connection closed|Disconnected|disconnect", host.read("/var/log/sshd.log")))
        lines = host.read("/var/log/sshd.log").splitlines()
        # As the journal has them.
        host.write("/tmp/journal", "".join(f"Nov 23 09:00:00 workhorse sshd[7]: {line}\n" for line in lines))
        failures = host.run(
            "fail2ban-regex", "-o", "ip", "/tmp/journal", "sshd[mode=aggressive]", check=False
        )
        return answer, failures.stdout.strip()

    try:
        # Not by connecting to it, which it would log as a failure, too, sooner or later.
        until(lambda: "Server listening" in host.read("/var/log/sshd.log"))
        answer, failures = ssh("deploy", "-i", str(key))
        assert (answer.stdout, failures) == ("deploy\n", "")
        for user, *options in (
            ("deploy", "-o", "PubkeyAuthentication=no"),
            ("root", "-i", str(key)),
            ("stranger", "-i", str(key)),
        ):
            answer, failures = ssh(user, *options)
            # What is in brackets is all that the server offers.
            assert answer.stderr.strip().endswith("Permission denied (publickey)."), user
            assert set(failures.split()) == {estate.administrator.address}, user
        assert "forwarding failed" in ssh("deploy", "-i", str(key), "-W", "127.0.0.1:22")[0].stderr
    finally:
        server.terminate()
        server.wait()
        host.run("iptables", "-D", "INPUT", "-p", "tcp", "--dport", "2022", "-j", "ACCEPT")


def test_ssh_settings_that_do_not_hold_are_withdrawn(estate: Estate) -> None:
    host = estate.hosts["all-in-one"]
    drop_in = "/etc/ssh/sshd_config.d/00-marquee.conf"
    host.run("sh", "-c", f"rm {drop_in}; cp /etc/ssh/sshd_config /root/; "
             "sed -i '1iPasswordAuthentication yes' /etc/ssh/sshd_config")  # fmt: skip
    refused = host.run(*applied("all-in-one", "--only", "ssh"), check=False)
    assert refused.returncode == 1
    assert "which is withdrawn" in refused.stderr
    assert host.run("test", "-e", drop_in, check=False).returncode == 1
    host.run("cp", "/root/sshd_config", "/etc/ssh/sshd_config")
    assert f"changed  {drop_in}" in apply(host, "all-in-one", "--only", "ssh")


def test_who_guesses_at_the_proxys_log_in_is_banned_and_others_are_not(listening: Estate) -> None:
    """By a real Caddy with the proxy's own file, and a real fail2ban."""
    host = listening.hosts["controltower"]
    log = "/var/log/marquee/proxy.log"
    secret = host.run("caddy", "hash-password", "--plaintext", "right").stdout.strip()
    host.write("/etc/proxy-users", f"somebody {secret}\n")
    caddy = host.start(
        "env", *(f"{name}={value}" for name, value in SITE.items()), f"ACCESS_LOG=file {log}", "sh", "-c",
        "exec caddy run --config /opt/marquee/deploy/proxy/Caddyfile 2>/var/log/caddy.log",
    )  # fmt: skip
    server = host.start("fail2ban-server", "-f", "--logtarget", "/var/log/fail2ban.log", "start",
                        stdout=subprocess.DEVNULL)  # fmt: skip
    host.run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "444", "-j", "ACCEPT")
    try:
        until(lambda: listening.outside.attempts([(host.address, 444, True)]) == ["open"])
        until(lambda: "marquee-proxy" in host.run("fail2ban-client", "status", check=False).stdout)
        ask = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code} ", "--max-time", "20"]
        page = f"https://{host.address}:444/mlflow"
        assert listening.outside.run(*ask, f"{page}?[1-25]").stdout == "308 " * 25
        guesses = ("-u", "somebody:wrong", f"{page}/?[1-20]=%22remote_ip%22:%2210.77.9.8%22")
        # A peer is trusted.
        assert listening.hosts["nervous"].run(*ask, *guesses).stdout == "401 " * 20
        listening.outside.run(*ask, *guesses, check=False)
        banned = lambda: host.run("fail2ban-client", "get", "marquee-proxy", "banip").stdout.split()  # noqa: E731
        assert until(banned) == ["10.77.9.9"]
        gone = [(host.address, 443, False), (host.address, 80, False)]
        until(lambda: listening.outside.attempts(gone) == ["dropped"] * 2)  # it is noted before it is done
        assert listening.administrator.attempts([(host.address, 443, True)]) == ["open"]
        host.run("ufw", "reload")
        assert listening.outside.attempts([(host.address, 443, False)]) == ["dropped"]
        host.run("fail2ban-client", "set", "marquee-proxy", "unbanip", "10.77.9.9")
        until(lambda: listening.outside.attempts([(host.address, 443, True)]) == ["open"])
    finally:
        host.run("iptables", "-D", "INPUT", "-p", "tcp", "--dport", "444", "-j", "ACCEPT")
        for process in (server, caddy):
            process.terminate()
            process.wait()


def test_jails_and_filters_are_valid_on_every_role(estate: Estate) -> None:
    for role, host in estate.hosts.items():
        jails = host.run("fail2ban-client", "--dp").stdout
        found = set(re.findall(r"'start', '([a-z-]+)'", jails))
        assert found == ({"sshd", "marquee-proxy"} if role in ("controltower", "all-in-one") else {"sshd"})
        assert "10.77.1.0/24" in jails  # small enough that its people are trusted not to guess


def test_behind_a_balancer_nobody_is_banned_for_the_proxys_log_in(estate: Estate) -> None:
    """Everybody's packets come from it, so a ban would be of everybody."""
    host = estate.hosts["controltower"]
    settings = "/opt/marquee/deploy/compose/.env"
    jails = "/etc/fail2ban/jail.d/marquee.conf"
    host.write(settings, "# TRUSTED_PROXIES=e.g. 10.0.1.0/24\nTRUSTED_PROXIES=10.77.3.0/24 10.77.4.0/24\n")
    assert f"changed  {jails}" in apply(host, "controltower", "--only", "bans")
    assert re.findall(r"^\[(.+)\]", host.read(jails), re.M) == ["DEFAULT", "sshd"]
    assert "marquee-proxy" not in host.run("fail2ban-client", "--dp").stdout
    host.run("rm", settings)
    apply(host, "controltower", "--only", "bans")
    assert "[marquee-proxy]" in host.read(jails)


def test_updates_are_of_security_alone_and_restart_at_different_times(estate: Estate) -> None:
    times = set()
    for role, host in estate.hosts.items():
        dumped = host.run("apt-config", "dump").stdout
        settings = dict(re.findall(r'^(\S+) "(.*)";$', dumped, re.M))
        origins = re.findall(r'^Unattended-Upgrade::(?:Origins-Pa|Allowed-O)\S+:: "(.*)";$', dumped, re.M)
        assert origins
        assert all("-security" in origin for origin in origins)
        assert settings["APT::Periodic::Unattended-Upgrade"] == "1"
        assert settings["Unattended-Upgrade::Automatic-Reboot"] == "true"
        if role != "all-in-one":
            times.add(settings["Unattended-Upgrade::Automatic-Reboot-Time"])
    assert times == {"04:00", "04:20", "04:40"}
    later = apply(estate.hosts["nervous"], "nervous", "--dry-run", "--hour", "23")
    assert 'Automatic-Reboot-Time "00:00"' in later
    assert "OnCalendar=*-*-* 23:00 UTC" in later


def test_kernel_settings_hold_after_everything(estate: Estate) -> None:
    """UFW sets some of its own when it starts."""
    for host in estate.hosts.values():
        wanted = re.findall(r"^(net\S+) = (\d)$", host.read("/etc/sysctl.d/90-marquee.conf"), re.M)
        found = dict(re.findall(r"^(\S+) = (\S+)$", host.run("sysctl", "-a").stdout, re.M))
        assert {name: found[name] for name, _ in wanted if "*" not in name} == {
            name: value for name, value in wanted if "*" not in name
        }
        assert found["net.ipv4.conf.eth0.rp_filter"] == "1"


def test_daemon_json_keeps_what_others_wrote_and_refuses_what_is_none(estate: Estate) -> None:
    host = estate.hosts["nervous"]
    path = "/etc/docker/daemon.json"
    host.write(path, '{"registry-mirrors": ["https://mirror.example"], "live-restore": false}')
    apply(host, "nervous", "--only", "docker")
    settings = json.loads(host.read(path))
    assert settings["registry-mirrors"] == ["https://mirror.example"]
    assert settings["live-restore"] is True
    host.write(path, "{")
    refused = host.run(*applied("nervous", "--only", "docker"), check=False)
    assert refused.returncode == 1
    assert f"{path} is no JSON" in refused.stderr
    assert host.read(path) == "{"
    host.run("rm", path)
    apply(host, "nervous", "--only", "docker")


def test_nobody_shuts_himself_out(estate: Estate) -> None:
    """Refused before the first change, whichever way it would happen."""
    host = estate.hosts["workhorse"]
    before = state(host)
    alone = ["/opt/marquee/deploy/hardening/apply", "--role", "workhorse", "--peers", *PEERS]

    def refusal(*command: str, **variables: str) -> str:
        done = host.run(*command, check=False, **variables)
        assert done.returncode == 1
        return str(done.stderr)

    assert "No administrators' network is given" in refusal(*alone)
    outside = {"SSH_CONNECTION": "10.77.9.9 50000 10.77.0.11 22"}
    assert "Your session comes from 10.77.9.9, which is not" in refusal(*applied("workhorse"), **outside)
    # sudo hides the variable from the command, but not from the processes above.
    hidden = f"env -u SSH_CONNECTION {shlex.join(applied('workhorse'))}; exit $?"
    assert "Your session comes from 10.77.9.9" in refusal("sh", "-c", hidden, **outside)
    host.run("mv", "/home/deploy/.ssh/authorized_keys", "/home/deploy/.ssh/away")
    assert NO_ADMINISTRATOR in refusal(*applied("workhorse"))
    host.run("mv", "/home/deploy/.ssh/away", "/home/deploy/.ssh/authorized_keys")
    host.run("gpasswd", "--delete", "deploy", "sudo")
    assert NO_ADMINISTRATOR in refusal(*applied("workhorse"))
    host.run("usermod", "--append", "--groups", "sudo", "deploy")
    assert state(host) == before
    for inside in ("10.77.1.7", "::ffff:10.77.1.7", "fd77::1ff%eth0", "127.0.0.1"):
        said = host.run(*applied("workhorse"), SSH_CONNECTION=f"{inside} 50000 10.77.0.11 22").stdout
        assert "Nothing to change" in said
    forced = host.run(*applied("workhorse"), "--force", **outside).stdout
    assert "Nothing to change" in forced


def test_who_has_no_password_must_need_none(estate: Estate) -> None:
    """A key leads in; root is what is lost where sudo asks for a password that nobody ever set."""
    host = estate.hosts["workhorse"]
    rule = "/etc/sudoers.d/deploy"
    host.run("passwd", "--lock", "deploy")
    assert NO_ADMINISTRATOR in host.run(*applied("workhorse"), check=False).stderr
    host.write(rule, "deploy ALL=(ALL) NOPASSWD: /usr/bin/apt-get\n")
    assert NO_ADMINISTRATOR in host.run(*applied("workhorse"), check=False).stderr
    host.write(rule, "deploy ALL=(ALL) NOPASSWD: ALL\n")
    assert "Nothing to change" in apply(host, "workhorse")
    host.run("rm", rule)
    host.run("passwd", "--unlock", "deploy")
    assert "Nothing to change" in apply(host, "workhorse")


def test_ssh_at_another_port_is_not_shut(estate: Estate) -> None:
    """Neither where the session comes in, nor where the next one would have to."""
    host = estate.hosts["workhorse"]
    drop_in = "/etc/ssh/sshd_config.d/40-port.conf"

    def refusal(port: int = 22, *more: str) -> str:
        session = f"10.77.1.7 50000 {host.address} {port}"
        return str(host.run(*applied("workhorse", *more), check=False, SSH_CONNECTION=session).stderr)

    closed = "SSH is at port 2222 here, and the firewall would open port 22 alone."
    assert closed in refusal(2222)
    host.write(drop_in, "Port 2222\n")
    assert closed in refusal()
    assert closed in host.run(*applied("workhorse"), check=False).stderr
    assert refusal(2222, "--only", "kernel", "ssh", "bans") == ""
    host.write(drop_in, "Port 2222\nPort 22\n")
    assert refusal() == ""
    host.run("rm", drop_in)
