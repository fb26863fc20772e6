"""
Hosts of the tests' own: each a network namespace and a file system, joined by a switch.

A host's root is this machine's by an overlay in memory, so that programs are there and whatever is changed
is nobody else's. Namespaces and mounts live as long as the process that holds them, and that ends with the
tests, however those end: nothing has to be removed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

REPOSITORY = Path(__file__).parents[2]
PORTS = Path(__file__).with_name("ports.py")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
NEEDED = {
    "caddy": "caddy",
    "fail2ban-server": "fail2ban",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "sudo": "sudo",
    "sysctl": "procps",
    "ufw": "ufw",
    "unattended-upgrade": "unattended-upgrades",
}
"""Programs, and the packages of Debian that bring them."""
SECONDS_OPEN, SECONDS_DROPPED = 30, 1.2
Target = tuple[str, int, bool]
"""An address, a port, and whether it is thought to be open: then its answer is waited for longer."""

ROOT = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p opt/marquee/deploy
mount --bind "$2" opt/marquee/deploy
mount -t tmpfs tmpfs opt/marquee/deploy/compose
"""


class UnavailableError(Exception):
    """This machine lets nobody make namespaces."""


class Host:
    """
    A network namespace, with a root of its own or without.

    Attributes:
        address: IPv4, in 10.77.0.0/16.
        address6: IPv6, in fd77::/64.
    """

    def __init__(self, name: str, number: int, root: Path | None) -> None:
        self.name = name
        self.address = f"10.77.{number >> 8}.{number & 255}"
        self.address6 = f"fd77::{number:x}"
        self.root = root / "root" if root else None
        self._started: list[subprocess.Popen[str]] = []
        script = f"{ROOT if root else ''}\necho ready\nexec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh",
             str(root), str(REPOSITORY / "deploy")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise UnavailableError(self.close().strip())
        self.pid = self._holder.pid

    def close(self) -> str:
        """End everything in it, and say what it complained of."""
        _, said = self._holder.communicate()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        return said

    def command(self, *command: str, chroot: bool = True) -> list[str]:
        """What runs a command there, within its root unless told otherwise."""
        of = f"/proc/{self.pid}/ns"
        enter = ["nsenter", f"--net={of}/net", f"--mount={of}/mnt", f"--pid={of}/pid_for_children"]
        return [*enter, *(["chroot", str(self.root)] if self.root and chroot else []), *command]

    def run(self, *command: str, check: bool = True, stdin: str = "", **variables: str) -> Any:
        """Run a command there, and give what it said."""
        done = subprocess.run(
            self.command(*command), input=stdin, capture_output=True, text=True, env=ENVIRONMENT | variables
        )
        assert not check or done.returncode == 0, f"{self.name}: {command}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *command: str, chroot: bool = True, **options: Any) -> subprocess.Popen[str]:
        """Start a command there that ends with the host."""
        process = subprocess.Popen(
            self.command(*command, chroot=chroot), env=ENVIRONMENT, text=True, **options
        )
        self._started.append(process)
        return process

    def read(self, path: str) -> str:
        """A file of its root."""
        return str(self.run("cat", path).stdout)

    def write(self, path: str, text: str) -> None:
        """Make a file of its root."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0"', path, stdin=text)

    def listen(self, ports: Sequence[int]) -> None:
        """Answer on ports of all its addresses, as long as it lives."""
        server = self.start(sys.executable, str(PORTS), "listen", *map(str, ports), chroot=False,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def attempts(self, targets: Sequence[Target]) -> list[str]:
        """Try ports of others: open, refused or dropped."""
        return self.attempting(targets)()

    def attempting(self, targets: Sequence[Target]) -> Callable[[], list[str]]:
        """The same, begun: call what is given for the answers."""
        wanted = [
            (address, port, SECONDS_OPEN if opened else SECONDS_DROPPED) for address, port, opened in targets
        ]
        trying = self.start(sys.executable, str(PORTS), "try", chroot=False, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)  # fmt: skip
        assert trying.stdin is not None
        trying.stdin.write(json.dumps(wanted))
        trying.stdin.close()
        trying.stdin = None

        def answers() -> list[str]:
            found: list[str] = json.loads(trying.communicate()[0])
            return found

        return answers


class Network:
    """Hosts on one switch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._ports = 0

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not shutil.which("unshare"):
            raise UnavailableError("which only root can make, on Linux")
        self._switch = self._opened("switch", 0, None)
        self._ip(self._switch, "link add switch type bridge", "link set switch up")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def join(self, name: str, number: int, *, kind: Literal["host", "client"] = "host") -> Host:
        """Add a host, or a client that has no root of its own."""
        root = None
        if kind == "host":
            root = self._folder / name
            root.mkdir()
        host = self._opened(name, number, root)
        self._cable(self._switch, f"port{number}", host, "eth0")
        self._ip(self._switch, f"link set port{number} master switch up")
        self._ip(
            host,
            f"addr add {host.address}/16 dev eth0",
            f"addr add {host.address6}/64 dev eth0 nodad",
            "link set eth0 up",
        )
        return host

    def container(self, host: Host) -> Host:
        """What Docker makes on a host: a bridge, and a namespace at 172.30.0.2 that leads out by it."""
        inner = self._opened(f"container of {host.name}", 0, None)
        self._ip(host, "link add br-marquee type bridge", "addr add 172.30.0.1/24 dev br-marquee",
                 "link set br-marquee up")  # fmt: skip
        self._cable(host, "veth0", inner, "eth0")
        self._ip(host, "link set veth0 master br-marquee up")
        self._ip(inner, "addr add 172.30.0.2/24 dev eth0", "link set eth0 up",
                 "route add default via 172.30.0.1")  # fmt: skip
        return inner

    def _opened(self, name: str, number: int, root: Path | None) -> Host:
        host = Host(name, number, root)
        self._stack.callback(host.close)
        self._ip(host, "link set lo up")
        return host

    def _cable(self, one: Host, one_end: str, other: Host, other_end: str) -> None:
        self._ip(one, f"link add {one_end} type veth peer name {other_end} netns {other.pid}")

    @staticmethod
    def _ip(host: Host, *commands: str) -> None:
        # ip itself is not chrooted: it names a process of the machine.
        command = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "ip", "-batch", "-"]
        subprocess.run(command, input="\n".join(commands), text=True, check=True, env=ENVIRONMENT)
