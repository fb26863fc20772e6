"""The notes of a release, and whether all that names its version agrees."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from scripts import REPOSITORY, script

release_notes = script("release_notes")
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def project(folder: Path, changelog: str, version: str = "1.2.0") -> Path:
    for path in release_notes.NAMED:
        text = (REPOSITORY / path).read_text("utf-8").replace(VERSION, version)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "CHANGELOG.md").write_text(changelog)
    return folder


def test_notes_are_the_section_of_the_version(tmp_path: Path) -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-02-03\n\n### Added\n\n- Films.\n\n"
    changelog += "## [1.1.0] - 2026-01-02\n\n- Old.\n\n[1.2.0]: https://example.org/1.2.0\n"
    assert release_notes.notes("v1.2.0", project(tmp_path, changelog)) == "### Added\n\n- Films.\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "reason"),
    [
        ("1.2.0", "", "names no version"),
        ("v1.3.0", "", "pyproject.toml names the version 1.2.0"),
        ("v1.2.0", "## [Unreleased]\n\n- Films.\n", r"no section \[1.2.0\]"),
        (
            "v1.2.0",
            "## [Unreleased]\n\n- More.\n\n## [1.2.0] - 2026-02-03\n\n- Films.\n",
            r"under \[Unreleased\]",
        ),
        ("v1.2.0", "## [1.3.0] - 2026-02-04\n\n- A.\n\n## [1.2.0] - 2026-02-03\n\n- B.\n", "not the newest"),
        ("v1.2.0", "## [1.2.0]\n\n- Films.\n", "needs its day"),
        ("v1.2.0", "## [1.2.0] - soon\n\n- Films.\n", "needs its day"),
        ("v1.2.0", "## [1.2.0] - 2026-02-03\n\n## [1.1.0] - 2026-01-02\n\n- Old.\n", "says nothing"),
    ],
)
def test_release_that_does_not_agree_is_refused_with_the_reason(
    tmp_path: Path, tag: str, changelog: str, reason: str
) -> None:
    with pytest.raises(release_notes.ReleaseError, match=reason):
        release_notes.notes(tag, project(tmp_path, changelog))


@pytest.mark.parametrize("path", release_notes.NAMED)
def test_file_that_names_another_version_is_refused(tmp_path: Path, path: str) -> None:
    folder = project(tmp_path, "## [1.2.0] - 2026-02-03\n\n- Films.\n")
    text = (folder / path).read_text()
    (folder / path).write_text(text.replace("1.2.0", "1.1.9"))
    with pytest.raises(release_notes.ReleaseError, match=rf"{path} names the version 1.1.9, the tag 1.2.0"):
        release_notes.notes("v1.2.0", folder)


def test_real_files_give_notes_once_the_next_version_is_dated(tmp_path: Path) -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    if f"## [{VERSION}]" not in changelog:
        changelog = changelog.replace("## [Unreleased]", f"## [{VERSION}] - 2026-12-31", 1)
    folder = project(tmp_path, changelog, VERSION)
    program = REPOSITORY / "deploy/ci/release_notes.py"
    command = [sys.executable, program, f"v{VERSION}", "--repository", folder]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("### Added\n\n- ")
    assert "## [" not in ended.stdout
