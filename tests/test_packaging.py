"""What the wheel holds, built from the files that it needs and a small site."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A working tree with one module and a built site, which its .gitignore names."""
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(REPOSITORY / name, tmp_path)
    package = tmp_path / "src" / "marquee"
    assets = package / "api" / "site_files" / "assets"
    assets.mkdir(parents=True)
    (package / "__init__.py").touch()
    (assets.parent / "index.html").write_text("<!doctype html>")
    (assets / "app-1a2b.js").write_text("")
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "web" / "node_modules").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text("<!doctype html>")
    return tmp_path


def test_wheel_holds_the_built_site_and_the_rules_and_not_their_sources(tree: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "wheels"]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    [wheel] = (tree / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    rules = {name for name in names if name.startswith("marquee/deploy/")}
    assert "marquee/deploy/prometheus/prometheus.yml" in rules
    assert not [name for name in rules if "/tests/" in name or "/grafana/" in name]
    assert names - rules == {
        "marquee/__init__.py",
        "marquee/api/site_files/index.html",
        "marquee/api/site_files/assets/app-1a2b.js",
    }
