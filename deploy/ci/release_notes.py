"""
Takes the notes of a release from the changelog, after checking that everything names the same version.

The tag, the files of `NAMED` and the newest section of `CHANGELOG.md`, with its day, must agree; what is
under `[Unreleased]` would be forgotten, so nothing may be there. Any Python ≥ 3.11 runs it, without packages.

    python deploy/ci/release_notes.py v0.2.0 [--output notes.md]
"""

import argparse
import re
import sys
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>.+))?\s*$", re.MULTILINE)
NAMED = {
    "pyproject.toml": r'version = "(.+)"',
    "deploy/compose/.env.example": r"MARQUEE_VERSION=(.+)",
    "deploy/aws/terraform.tfvars.example": r'release += "v(.+)"',
}
"""Every file that names the version of the release, and the line that does."""
LINK = re.compile(r"^\[[^\]]+\]: \S+$", re.MULTILINE)


class ReleaseError(Exception):
    """What disagrees, and how to mend it."""


def main() -> None:
    """Print or write the notes, or end with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("tag", help="for example v0.2.0")
    parser.add_argument("--output", type=Path, help="default: standard output")
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    arguments = parser.parse_args()
    try:
        text = notes(arguments.tag, arguments.repository)
    except ReleaseError as error:
        sys.exit(f"{error}")
    if arguments.output:
        arguments.output.write_text(text, "utf-8")
    else:
        sys.stdout.write(text)


def notes(tag: str, repository: Path) -> str:
    """
    The changelog's words on the version that a tag names.

    Raises:
        ReleaseError: the tag, the versions and the changelog do not agree.
    """
    if not (found := TAG.fullmatch(tag)):
        raise ReleaseError(f"The tag {tag!r} names no version; expected one like v0.2.0.")
    version = found[1]
    for path, line in NAMED.items():
        named = re.findall(rf"^{line}$", (repository / path).read_text("utf-8"), re.MULTILINE)
        if named != [version]:
            raise ReleaseError(
                f"{path} names the version {', '.join(named)}, the tag {version}. Change one of them."
            )
    return _section((repository / "CHANGELOG.md").read_text("utf-8"), version)


def _section(changelog: str, version: str) -> str:
    headings = list(SECTION.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    bodies = {
        heading["name"]: LINK.sub("", changelog[heading.end() : end]).strip()
        for heading, end in zip(headings, ends, strict=True)
    }
    days = {heading["name"]: heading["day"] for heading in headings}
    if version not in bodies:
        raise ReleaseError(
            f"CHANGELOG.md has no section [{version}]. Rename [Unreleased] to it, with the day."
        )
    if bodies.get("Unreleased"):
        raise ReleaseError(f"CHANGELOG.md has entries under [Unreleased]. Move them to [{version}].")
    if next(name for name in bodies if name != "Unreleased") != version:
        raise ReleaseError(f"[{version}] is not the newest section of CHANGELOG.md.")
    try:
        date.fromisoformat(days[version] or "")
    except ValueError:
        raise ReleaseError(
            f"[{version}] of CHANGELOG.md needs its day: ## [{version}] - 2026-01-31"
        ) from None
    if not bodies[version]:
        raise ReleaseError(f"[{version}] of CHANGELOG.md says nothing.")
    return f"{bodies[version]}\n"


if __name__ == "__main__":
    main()
