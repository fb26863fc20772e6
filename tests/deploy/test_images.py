"""The file of public images that Dependabot reads, and the script that copies it to where they are used."""

import re
import shutil
from pathlib import Path

import pytest
from scripts import REPOSITORY, script

images = script("images")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that name public images."""
    for path in (*images.users(REPOSITORY), REPOSITORY / images.BASES):
        target = tmp_path / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_image_that_is_used_is_the_one_that_dependabot_reads() -> None:
    assert images.differences(REPOSITORY) == []


def test_base_names_every_public_image() -> None:
    """Whatever is written like one, so that no form of it is overlooked."""
    text = "\n".join(path.read_text("utf-8") for path in images.users(REPOSITORY))
    named = {found["name"] for found in images.BASE.finditer((REPOSITORY / images.BASES).read_text("utf-8"))}
    variables = re.findall(r"\b(?!MARQUEE_)([A-Z_]+)_IMAGE\b", text)
    assert {name.lower().replace("_", "-") for name in variables} == named


def test_newer_image_reaches_everything_that_uses_it(copy: Path) -> None:
    pinned = next(line for line in (copy / images.BASES).read_text().splitlines() if " AS caddy" in line)
    newer = f"caddy:2.99-alpine@sha256:{'0' * 64}"
    change(copy / images.BASES, pinned, f"FROM {newer} AS caddy")
    found = images.differences(copy)
    assert {line.partition(":")[0] for line in found} == {
        "web.Dockerfile", "workhorse.yml", "controltower.yml", ".env.example",
    }  # fmt: skip
    assert images.differences(copy, write=True) == []
    assert images.differences(copy) == []
    assert f"ARG CADDY_IMAGE={newer}\n" in (copy / "deploy/docker/web.Dockerfile").read_text()
    assert "${CADDY_IMAGE:-caddy:2.99-alpine}" in (copy / "deploy/compose/workhorse.yml").read_text()
    assert "\n# CADDY_IMAGE=caddy:2.99-alpine\n" in (copy / "deploy/compose/.env.example").read_text()


def test_image_that_dependabot_does_not_know_or_nobody_uses_is_named(copy: Path) -> None:
    change(copy / images.BASES, " AS loki", " AS loci")
    found = images.differences(copy, write=True)
    assert f"{images.BASES}: nothing uses loci" in found
    assert any(line.startswith("nervous.yml: grafana/loki:") for line in found)
