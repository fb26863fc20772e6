"""The workflows of GitHub Actions, and what deploys, as far as that goes without GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
ACTION = REPOSITORY / ".github/actions/prepare/action.yml"
PINNED = re.compile(r"uses: (?P<name>[\w./-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
WITH_SECRETS = {"deploy.yml"}
REQUIRED = {
    "unit": {"Terraform"},
    "integration": {"The previous release"},
    "docker": {"Docker", "Network namespaces"},
}
"""By job of ci.yml: parts without which tests are skipped elsewhere."""
MAY_WRITE = {
    "pr-comment.yml": {"pull-requests"},
    "nightly.yml": {"issues"},
    "release.yml": {"packages", "id-token", "attestations", "contents"},
}


def load(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads the key as a truth value
    return workflow


WORKFLOWS = {path.name: load(path) for path in FILES}
JOBS = [(file, name, job) for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()]
OF_JOB = pytest.mark.parametrize(
    ("file", "name", "job"), JOBS, ids=[f"{file}-{name}" for file, name, _ in JOBS]
)


def scripts() -> Iterator[tuple[str, str]]:
    """File and script of every step that runs one."""
    everywhere = [(file, job) for file, _, job in JOBS]
    everywhere.append(("action.yml", yaml.safe_load(ACTION.read_text("utf-8"))["runs"]))
    for file, job in everywhere:
        for step in job.get("steps", ()):
            if "run" in step:
                yield file, step["run"]


# --- workflows


def test_all_promised_workflows_are_there() -> None:
    assert set(WORKFLOWS) == {
        "ci.yml", "deploy.yml", "nightly.yml", "pr-comment.yml", "pr-metrics.yml", "release.yml",
    }  # fmt: skip


@pytest.mark.parametrize("path", [*FILES, ACTION], ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_names_its_version(path: Path) -> None:
    uses = [
        line.strip().removeprefix("- ") for line in path.read_text("utf-8").splitlines() if "uses: " in line
    ]
    ours = ("uses: ./.github/actions/prepare", "uses: ./.github/workflows/ci.yml")
    assert [line for line in uses if not PINNED.fullmatch(line) and line not in ours] == []


def test_an_action_has_one_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for path in [*FILES, ACTION]:
        for line in path.read_text("utf-8").splitlines():
            if found := PINNED.search(line.strip()):
                versions.setdefault(found["name"], set()).add(line.partition("@")[2])
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("file", WORKFLOWS)
def test_workflow_may_no_more_than_read_unless_a_job_asks(file: str) -> None:
    assert WORKFLOWS[file]["permissions"] in ({}, {"contents": "read"})


@OF_JOB
def test_job_writes_only_what_its_workflow_is_for(file: str, name: str, job: dict[str, Any]) -> None:
    granted = job.get("permissions", {})
    assert isinstance(granted, dict)
    assert {what for what, how in granted.items() if how == "write"} <= MAY_WRITE.get(file, set())


@OF_JOB
def test_job_has_a_time_limit(file: str, name: str, job: dict[str, Any]) -> None:
    assert "uses" in job or 0 < job["timeout-minutes"] <= 360


@OF_JOB
def test_checkout_leaves_no_credentials(file: str, name: str, job: dict[str, Any]) -> None:
    checkouts = [
        step for step in job.get("steps", ()) if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_workflow_runs_code_of_strangers_with_rights() -> None:
    assert not [file for file, workflow in WORKFLOWS.items() if "pull_request_target" in workflow["on"]]
    [comment] = WORKFLOWS["pr-comment.yml"]["jobs"].values()
    [checkout] = [step for step in comment["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"


def test_no_expression_is_pasted_into_a_script() -> None:
    assert [(file, text) for file, text in scripts() if "${{" in text] == []


def test_only_deploying_knows_secrets() -> None:
    with_secrets = {path.name for path in [*FILES, ACTION] if "secrets." in path.read_text("utf-8")}
    assert with_secrets == WITH_SECRETS


def test_required_waits_for_every_other_job_and_always_runs() -> None:
    jobs = WORKFLOWS["ci.yml"]["jobs"]
    assert set(jobs["required"]["needs"]) == set(jobs) - {"required"}
    assert jobs["required"]["if"] == "always()"
    [step] = jobs["required"]["steps"]
    assert step["env"] == {"RESULTS": "${{ toJSON(needs.*.result) }}"}


@pytest.mark.parametrize(
    ("results", "passes"),
    [
        (["success", "success"], True),
        (["success", "skipped"], False),
        (["failure"], False),
        (["cancelled"], False),
    ],
)
def test_required_passes_only_where_all_have_passed(results: list[str], passes: bool) -> None:
    if not shutil.which("jq"):
        pytest.skip("jq, which GitHub's machines have, is not on the path")
    [step] = WORKFLOWS["ci.yml"]["jobs"]["required"]["steps"]
    environment = {**os.environ, "RESULTS": json.dumps(results)}
    ended = subprocess.run(["bash", "-ec", step["run"]], env=environment, capture_output=True, check=False)
    assert (ended.returncode == 0) is passes


def test_unit_tests_run_on_every_promised_python_and_system() -> None:
    unit = WORKFLOWS["ci.yml"]["jobs"]["unit"]["strategy"]["matrix"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    promised = [found[1] for line in project["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))]
    assert unit["python"] == promised == ["3.11", "3.12", "3.13"]
    assert {system.partition("-")[0] for system in unit["os"]} == {"ubuntu", "macos"}


def test_recipes_that_workflows_make_are_in_the_makefile() -> None:
    recipes = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = "\n".join(text for _, text in scripts())
    made = {
        word
        for line in re.findall(r"\bmake ((?:[\w=./-]+ ?)+)", text)
        for word in line.split()
        if "=" not in word and not word.startswith("--")
    }
    matrix = WORKFLOWS["ci.yml"]["jobs"]["unit"]["strategy"]["matrix"]
    made |= {one["recipe"] for one in matrix["include"]}
    assert {"lint", "check-locks", "audit", "soak", "test-unit", "wheel"} <= made
    assert made - recipes == set()


@pytest.mark.parametrize("recipe", ["check", "lint-delivery", "test-unit", "test-docker"])
def test_recipe_brings_the_tools_that_its_checks_call(recipe: str) -> None:
    command = ["make", "--dry-run", "--always-make", recipe]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "-r requirements-lint.lock" in ended.stdout


def test_unit_tests_take_nothing_from_the_machine_but_terraform() -> None:
    [prepare] = [
        step for step in WORKFLOWS["ci.yml"]["jobs"]["unit"]["steps"] if "prepare" in step.get("uses", "")
    ]
    assert set(prepare["with"]) == {"python"}


def test_jobs_require_the_parts_that_they_are_for() -> None:
    jobs = WORKFLOWS["ci.yml"]["jobs"]
    named = {name: job["env"]["MARQUEE_TEST_REQUIRED"] for name, job in jobs.items() if "env" in job}
    assert {name: set(parts.split(", ")) for name, parts in named.items()} == REQUIRED
    as_root = [step["run"] for step in jobs["docker"]["steps"] if "sudo" in step.get("run", "")]
    assert len(as_root) == 2
    assert all("--preserve-env=CI,MARQUEE_TEST_REQUIRED " in line for line in as_root)


def test_required_part_that_is_not_there_fails_and_another_is_skipped(
    not_run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_TEST_REQUIRED", "Docker, Grafana")
    with pytest.raises(pytest.fail.Exception, match="not run: Grafana, which"):
        not_run("Grafana")
    with pytest.raises(pytest.skip.Exception, match="not run: Loki, which"):
        not_run("Loki")


@pytest.mark.slow
def test_name_of_no_part_is_refused_before_any_test() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", __file__]
    environment = {**os.environ, "MARQUEE_TEST_REQUIRED": "Docker, Teraform"}
    ended = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no part is named Teraform" in ended.stderr


@OF_JOB
def test_nothing_but_deploying_needs_variables_of_the_repository(
    file: str, name: str, job: dict[str, Any]
) -> None:
    """Forks have none, nor have pull requests from them."""
    if file != "deploy.yml":
        steps = job.get("steps", [])
        without = {key: value for key, value in job.items() if key != "steps"}
        assert "vars." not in json.dumps(without)
        for step in steps:
            for variable in re.findall(r"vars\.(\w+)", json.dumps(step)):
                assert step["if"] == f"vars.{variable} != ''"


def test_job_that_takes_too_long_is_reported_too() -> None:
    jobs = WORKFLOWS["nightly.yml"]["jobs"]
    assert set(jobs["report"]["needs"]) == set(jobs) - {"report"}
    assert jobs["report"]["if"] == "${{ !success() }}", "failure() is not true of what was cancelled"


def test_way_back_of_a_deployment_has_time_of_its_own() -> None:
    job = WORKFLOWS["deploy.yml"]["jobs"]["deploy"]
    long = [step for step in job["steps"] if re.match(r"deploy/|read -ra", step.get("run", ""))]
    assert [step["name"] for step in long if "failure()" in step.get("if", "")] == ["Go back", "Look again"]
    assert len(long) == 4
    assert sum(step["timeout-minutes"] for step in long) < job["timeout-minutes"]


def test_jobs_that_test_upgrades_have_the_history() -> None:
    found = {}
    for file, name, job in JOBS:
        lines = "\n".join(step.get("run", "") for step in job.get("steps", ()))
        if re.search(r"\bmake (?:.* )?test(?:-integration)?(?= |$)|\.ci/run(?! parts)", lines, re.MULTILINE):
            [checkout] = [step for step in job["steps"] if "actions/checkout@" in step.get("uses", "")]
            found[file, name] = checkout["with"].get("fetch-depth")
    assert found == {("ci.yml", "integration"): 0}


def test_files_that_workflows_call_are_there() -> None:
    called = {
        path for _, text in scripts() for path in re.findall(r"(?:tests/)?(?:deploy|\.ci)/[\w./-]*\w", text)
    }
    called = {path for path in called if not path.startswith("deploy/docker/")}
    assert called >= {"deploy/ci/deploy.sh", "deploy/bin/smoke", ".ci/run"}
    assert [path for path in called if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize(
    ("file", "name"),
    [("ci.yml", "images"), ("release.yml", "image"), ("release.yml", "publish-image")],
)
def test_every_image_is_built_and_published(file: str, name: str) -> None:
    images = {path.name.partition(".")[0] for path in (REPOSITORY / "deploy/docker").glob("*.Dockerfile")}
    assert set(WORKFLOWS[file]["jobs"][name]["strategy"]["matrix"]["image"]) == images


def test_nothing_is_published_before_tests_and_scan_have_passed() -> None:
    jobs = WORKFLOWS["release.yml"]["jobs"]
    for name in ("publish-image", "attest-wheel"):
        assert set(jobs[name]["needs"]) == {"test", "wheel", "image", "stack"}
    assert set(jobs["publish-wheel"]["needs"]) == {"publish-image", "attest-wheel"}
    assert jobs["release"]["needs"] == "publish-wheel"
    [scan] = [step for step in jobs["image"]["steps"] if step.get("with", {}).get("exit-code") == "1"]
    assert scan["with"]["severity"] == "HIGH,CRITICAL"


def test_what_is_published_has_run_before() -> None:
    [tried] = [step for step in WORKFLOWS["ci.yml"]["jobs"]["images"]["steps"] if "run" in step]
    assert tried["run"].splitlines()[-1] == 'deploy/ci/try_image.sh "$IMAGE" "marquee-$IMAGE"'
    for file in ("nightly.yml", "release.yml"):
        lines = "\n".join(step.get("run", "") for step in WORKFLOWS[file]["jobs"]["stack"]["steps"])
        assert "sudo deploy/bin/up all-in-one -- --registry localhost/marquee" in lines


@pytest.mark.parametrize(("tag", "early"), [("v1.2.3", False), ("v1.2.3rc1", True), ("v1.2.3b2", True)])
def test_only_a_finished_version_becomes_the_latest_release(tmp_path: Path, tag: str, early: bool) -> None:
    [step] = [step for step in WORKFLOWS["release.yml"]["jobs"]["release"]["steps"] if "run" in step]
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\necho "$@"\n')
    gh.chmod(0o755)
    for name in ("api.digest", "a.whl", "a.cdx.json"):
        (tmp_path / name).touch()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_REF_NAME": tag,
        "GITHUB_REPOSITORY": "a/b",
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step["run"]],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"release create {tag} " in ended.stdout
    assert ("--prerelease" in ended.stdout) is early


def test_dependabot_finds_something_in_each_folder_that_it_is_sent_to() -> None:
    found = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text("utf-8"))["updates"]
    reads = {
        "docker": r"^FROM [a-z]\S+:",
        "github-actions": r"uses: \S+@",
        "npm": r'"devDependencies"',
        "terraform": r"required_providers",
    }
    names = {
        "docker": "Dockerfile",
        "github-actions": "*.yml",
        "npm": "package.json",
        "terraform": "*.tf",
    }
    for update in found:
        kind = update["package-ecosystem"]
        for folder in update.get("directories") or [update["directory"]]:
            of_github = (kind, folder) == ("github-actions", "/")
            place = REPOSITORY / (".github/workflows" if of_github else folder.strip("/"))
            texts = [path.read_text("utf-8") for path in place.glob(names[kind])]
            assert any(re.search(reads[kind], text, re.MULTILINE) for text in texts), update


# --- deploy.sh

SSH = """#!/usr/bin/env bash
# Goes nowhere: a host is a folder, and whoever is there may do everything.
while [ "$1" != -- ]; do case $1 in *=*) echo "$1" >> "$HOSTS/options" ;; esac; shift; done
[ "$3 $4" = "sudo -n" ] || exit 99
cd "$HOSTS/${2#*@}" && exec "${@:5}"
"""
RELEASE = """#!/usr/bin/env bash
cat >/dev/null  # as `docker compose run` does
host=$(basename "$(dirname "$PWD")")
echo "$host $(git describe --tags --exact-match) $*" >> "$HOSTS/log"
! [ -e "$HOSTS/$host/dies" ] || [[ "$1" = --* ]] || kill -9 $PPID
! [ -e "$HOSTS/$host/ill" ] || [[ "$1" = --* ]] || exit "$(cat "$HOSTS/$host/ill")"
! [ -e "$HOSTS/$host/lost" ] || [[ "$1" != --* ]] || exit 5
"""
INIT = """#!/usr/bin/env bash
[ $# -eq 0 ] && touch "deploy/compose/secret-of-$(git describe --tags --exact-match)"
"""


class Hosts:
    """Two hosts with a checkout each, at v1.0.0, and an origin that has v1.1.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        origin = folder / "origin"
        (origin / "deploy/bin").mkdir(parents=True)
        for name, text in (("release", RELEASE), ("init", INIT)):
            (origin / "deploy/bin" / name).write_text(text)
            (origin / "deploy/bin" / name).chmod(0o755)
        self.git(origin, "init", "--quiet")
        for tag in ("v1.0.0", "v1.1.0"):
            (origin / "tag").write_text(tag)
            self.git(origin, "add", ".")
            self.git(origin, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", tag)
            self.git(origin, "tag", tag)
        for host in ("one", "two"):
            self.git(folder, "clone", "--quiet", "--branch", "v1.0.0", str(origin), f"{host}/marquee")
            (folder / host / "marquee/deploy/compose").mkdir()
            (folder / host / "marquee/deploy/compose/.env").touch()
        (folder / "bin").mkdir()
        (folder / "bin/ssh").write_text(SSH)
        (folder / "bin/ssh").chmod(0o755)

    def git(self, folder: Path, *arguments: str) -> str:
        quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        command = ["git", "-c", "advice.detachedHead=false", *arguments]
        return subprocess.run(
            command, cwd=folder, env={**os.environ, **quiet}, check=True, capture_output=True, text=True
        ).stdout.strip()

    def tags(self) -> list[str]:
        checkouts = [self.folder / host / "marquee" for host in ("one", "two")]
        return [self.git(checkout, "describe", "--tags", "--exact-match") for checkout in checkouts]

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    def deploy(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "HOSTS": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "DEPLOY_HOSTS": "one two",
            "DEPLOY_USER": "deployer",
            "DEPLOY_FOLDER": "marquee",
            "SSH_KEY_FILE": "key",
            "SSH_KNOWN_HOSTS_FILE": "known",
            **environment,
        }
        command = [str(REPOSITORY / "deploy/ci/deploy.sh"), *arguments]
        return subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    if sys.platform != "linux":
        pytest.skip("hosts run Linux")
    return Hosts(tmp_path)


REFERENCE = "api=ghcr.io/someone/marquee/api@sha256:" + "0" * 64


def test_deploying_brings_files_and_images_to_every_host_in_turn_and_back(hosts: Hosts) -> None:
    ended = hosts.deploy("to", "v1.1.0", REFERENCE)
    assert ended.returncode == 0, ended.stderr
    assert hosts.log() == [f"one v1.1.0 {REFERENCE}", f"two v1.1.0 {REFERENCE}"]
    assert hosts.tags() == ["v1.1.0", "v1.1.0"]
    assert (hosts.folder / "two/marquee/deploy/compose/secret-of-v1.1.0").exists()
    assert hosts.deploy("back").returncode == 0
    assert hosts.log()[2:] == ["one v1.0.0 --back", "two v1.0.0 --back"]
    assert hosts.tags() == ["v1.0.0", "v1.0.0"]


@pytest.mark.parametrize("code", [4, 5])
def test_host_that_fails_sends_the_hosts_before_it_back(hosts: Hosts, code: int) -> None:
    """With 5 the images before did not run by the new files either, which may be what is broken."""
    (hosts.folder / "two/ill").write_text(str(code))
    ended = hosts.deploy("to", "v1.1.0", REFERENCE)
    assert ended.returncode == 1
    assert "it failed on two" in ended.stderr
    # What failed goes back by the files of the version before, too.
    assert hosts.log()[-2:] == ["two v1.0.0 --same", "one v1.0.0 --back"]
    assert hosts.tags() == ["v1.0.0", "v1.0.0"]


@pytest.mark.parametrize("code", [4, 5])
def test_host_that_does_not_go_back_at_once_can_be_brought_back_later(hosts: Hosts, code: int) -> None:
    (hosts.folder / "one/ill").write_text(str(code))
    (hosts.folder / "one/lost").touch()
    assert hosts.deploy("to", "v1.1.0", REFERENCE).returncode == 1
    assert hosts.deploy("back").returncode == 1
    (hosts.folder / "one/lost").unlink()
    assert hosts.deploy("back").returncode == 0
    assert hosts.log()[1:] == ["one v1.0.0 --same"] * 3
    assert "nothing of this deployment" in hosts.deploy("back").stdout


def test_release_that_changed_nothing_leaves_nothing_to_go_back_to(hosts: Hosts) -> None:
    (hosts.folder / "one/ill").write_text("3")
    assert hosts.deploy("to", "v1.1.0", REFERENCE).returncode == 1
    assert hosts.tags() == ["v1.0.0", "v1.0.0"]
    assert hosts.deploy("back").returncode == 0
    assert hosts.log() == [f"one v1.1.0 {REFERENCE}"]


def test_host_that_was_broken_off_half_way_is_brought_back(hosts: Hosts) -> None:
    (hosts.folder / "two/dies").touch()
    assert hosts.deploy("to", "v1.1.0", REFERENCE, DEPLOY_ID="7").returncode == 1
    assert hosts.tags() == ["v1.0.0", "v1.1.0"]
    assert hosts.deploy("back", DEPLOY_ID="7").returncode == 0
    # The first had gone back by then.
    assert hosts.log()[-2:] == ["one v1.0.0 --back", "two v1.0.0 --same"]
    assert hosts.tags() == ["v1.0.0", "v1.0.0"]


def test_what_another_deployment_brought_stays(hosts: Hosts) -> None:
    assert hosts.deploy("to", "v1.1.0", REFERENCE, DEPLOY_ID="7").returncode == 0
    assert hosts.deploy("back", DEPLOY_ID="8").returncode == 0
    assert len(hosts.log()) == 2
    assert hosts.tags() == ["v1.1.0", "v1.1.0"]


def test_ssh_believes_only_the_keys_that_it_is_given(hosts: Hosts) -> None:
    hosts.deploy("back")
    options = (hosts.folder / "options").read_text().split()
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=known", "GlobalKnownHostsFile=none"} <= set(
        options
    )


@pytest.mark.parametrize("word", ["api=$(id)", "v1;id", "a b", "`id`", "x\ny"])
def test_word_that_a_shell_would_read_is_refused_before_any_host_is_asked(hosts: Hosts, word: str) -> None:
    ended = hosts.deploy("to", "v1.1.0", word)
    assert ended.returncode == 2
    assert "is not a host, folder, tag or reference" in ended.stderr
    assert not (hosts.folder / "log").exists()
