"""
The public images that Marquee is built on and runs beside: one file for Dependabot, and where they are used.

    python3 deploy/ci/images.py check   # is what is used what deploy/docker/bases/Dockerfile says?
    python3 deploy/ci/images.py sync    # write it there: after Dependabot has changed that file, or a person

Dependabot knows no `FROM ${BASE_IMAGE}`, and no file of Compose by another name than the usual. An image is
called as the variable that names it: `node-exporter` for NODE_EXPORTER_IMAGE. Dockerfiles pin by tag and
digest, Compose by tag. Any Python ≥ 3.11 runs it, without packages.
"""

import argparse
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BASES = "deploy/docker/bases/Dockerfile"
SYNC = "python3 deploy/ci/images.py sync"
IMAGE = r"[a-z][\w./-]*:[\w.-]+(?:@sha256:[0-9a-f]{64})?"
BASE = re.compile(rf"^FROM (?P<image>{IMAGE}) AS (?P<name>[a-z-]+)$", re.MULTILINE)
# `ARG NAME=…` of Dockerfiles, `${NAME:-…}` of Compose, `# NAME=…` of .env.example.
USE = re.compile(
    rf"(?P<before>(?:^ARG |\$\{{|^# )(?P<name>[A-Z_]+)_IMAGE(?:=|:-))(?P<image>{IMAGE})(?=\}}|$)",
    re.MULTILINE,
)


def main() -> None:
    """Check or write; end with 1 where something differs or is unknown."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("command", choices=("check", "sync"))
    if wrong := differences(REPOSITORY, write=parser.parse_args().command == "sync"):
        sys.exit("\n".join(wrong))


def differences(repository: Path, *, write: bool = False) -> list[str]:
    """What is used and is not what `BASES` says; with `write`, what cannot be mended."""
    text = (repository / BASES).read_text("utf-8")
    bases = {found["name"]: found["image"] for found in BASE.finditer(text)}
    wrong, used = [], set()
    for path in users(repository):
        text = path.read_text("utf-8")

        def base(use: re.Match[str], path: Path = path) -> str:
            name = use["name"].lower().replace("_", "-")
            used.add(name)
            if name not in bases:
                wrong.append(f"{path.name}: {use['image']} is not in {BASES}")
                return use[0]
            image = bases[name] if path.suffix == ".Dockerfile" else bases[name].partition("@")[0]
            if image != use["image"] and not write:
                wrong.append(f"{path.name}: {use['image']} is not {image}. Run: {SYNC}")
            return f"{use['before']}{image}"

        now = USE.sub(base, text)
        if write and now != text:
            path.write_text(now, "utf-8")
    return wrong + [f"{BASES}: nothing uses {name}" for name in sorted(bases.keys() - used)]


def users(repository: Path) -> list[Path]:
    """The files that name public images."""
    deploy = repository / "deploy"
    example = deploy / "compose" / ".env.example"
    return [*sorted(deploy.glob("docker/*.Dockerfile")), *sorted(deploy.glob("compose/*.yml")), example]


if __name__ == "__main__":
    main()
