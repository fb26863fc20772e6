"""The Terraform code, without AWS: what can be evaluated is evaluated, the rest is parsed and checked."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
AWS = REPOSITORY / "deploy" / "aws"
HOSTS = ("controltower", "nervous", "workhorse")
EXPRESSIONS = ("rules.tf", "settings.tf", "variables.tf")
"""Files without resources: Terraform evaluates them without a provider."""

REQUESTS = {
    "put": {"s3:PutObject"},
    "head": {"s3:GetObject"},
    "get": {"s3:GetObject"},
    "get_range": {"s3:GetObject"},
    "list": {"s3:ListBucket"},
    "delete": {"s3:DeleteObject"},
}
"""What the archive asks of obstore → what S3 must permit for it."""

Evaluate = Callable[..., Any]


@pytest.fixture(scope="session")
def terraform(not_run: Callable[..., None]) -> str:
    found = shutil.which("terraform")
    if found is None:
        not_run("Terraform")
        raise AssertionError
    return found


@pytest.fixture
def evaluate(terraform: str, tmp_path: Path) -> Evaluate:
    """An expression's value, with the variables of the example and others; or what Terraform refuses."""
    folder = tmp_path / "deploy" / "aws"
    folder.mkdir(parents=True)
    for name in EXPRESSIONS:
        shutil.copy(AWS / name, folder)
    for path in AWS.glob("*.tftpl"):
        shutil.copy(path, folder)
    shutil.copy(AWS / "terraform.tfvars.example", folder / "terraform.tfvars")
    shutil.copy(AWS.parent / "hosts.json", folder.parent)

    def run(expression: str, **variables: Any) -> Any:
        (folder / "given.auto.tfvars.json").write_text(json.dumps(variables))
        (folder / "value.tf").write_text(f'output "value" {{\n  value = jsonencode({expression})\n}}\n')
        ended = subprocess.run(
            [terraform, "apply", "-auto-approve", "-input=false", "-no-color"],
            cwd=folder,
            env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise ValueError(ended.stderr)
        state = json.loads((folder / "terraform.tfstate").read_text("utf-8"))
        return json.loads(state["outputs"]["value"]["value"])

    return run


@pytest.fixture(scope="session")
def lint_python(missing: Callable[[str], None]) -> Path:
    """The Python of the lint tools."""
    python = Path(os.environ.get("MARQUEE_LINT_ENV", REPOSITORY / ".venv-lint"), "bin", "python")
    if not python.is_file():
        missing(f"the lint tools ({python}; make setup-lint)")
    return python


@pytest.fixture(scope="session")
def parsed(lint_python: Path) -> dict[str, list[dict[str, Any]]]:
    """All blocks by their kind."""
    script = (
        "import hcl2, json, pathlib, sys\n"
        "files = sorted(pathlib.Path(sys.argv[1]).glob('*.tf'))\n"
        "print(json.dumps([hcl2.loads(file.read_text('utf-8')) for file in files]))"
    )
    ended = subprocess.run([lint_python, "-c", script, AWS], capture_output=True, text=True, check=True)
    blocks: dict[str, list[dict[str, Any]]] = {}
    for file in json.loads(ended.stdout):
        for kind, found in file.items():
            blocks.setdefault(kind, []).extend(_plain(found))
    return blocks


def _plain(value: Any) -> Any:
    """The parser gives each value of a block as a list of one, and positions of its own."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if not name.startswith("__")}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def resources(parsed: dict[str, list[dict[str, Any]]], kind: str, block: str = "resource") -> dict[str, Any]:
    """Resources of a kind, by name."""
    return {name: body for entry in parsed[block] for name, body in _one(entry.get(kind, {})).items()}


def statements(parsed: dict[str, list[dict[str, Any]]], document: str) -> list[dict[str, Any]]:
    """The statements of a policy document."""
    found: list[dict[str, Any]] = resources(parsed, "aws_iam_policy_document", "data")[document]["statement"]
    return found


def table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((AWS.parent / "hosts.json").read_text("utf-8"))
    return found


def test_files_are_formatted(terraform: str) -> None:
    ended = subprocess.run(
        [terraform, "fmt", "-check", "-recursive", "-diff", AWS], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_checkov_finds_nothing_and_every_exception_has_a_reason(lint_python: Path) -> None:
    script = REPOSITORY / "deploy" / "checks" / "lint_delivery.py"
    ended = subprocess.run([lint_python, script, "checkov"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    skips = re.findall(r"#checkov:skip=(\w+)(.*)", _all_text())
    assert skips
    assert all(re.fullmatch(r": .{8,}", reason) for _, reason in skips), skips


def test_peers_reach_the_ports_of_the_table_and_no_others(evaluate: Evaluate) -> None:
    found = {(one["role"], one["port"], one["source"]) for one in evaluate("local.from_peers").values()}
    expected = {
        (role, row["port"], source)
        for role in HOSTS
        for row in table()[role]
        for source in row["from"]
        if source in HOSTS and source != role
    }
    assert found == expected


def test_everyone_reaches_the_proxy_alone_and_without_administrators_nobody_port_22(
    evaluate: Evaluate,
) -> None:
    found = {(one["role"], one["port"], one["network"]) for one in evaluate("local.from_networks").values()}
    assert found == {("controltower", 80, "0.0.0.0/0"), ("controltower", 443, "0.0.0.0/0")}


def test_administrators_reach_port_22_of_every_host(evaluate: Evaluate) -> None:
    networks = ["203.0.113.7/32", "198.51.100.0/24", "203.0.113.7/32"]
    found = evaluate("local.from_networks", administrators=networks).values()
    assert {
        (one["role"], one["port"], one["network"]) for one in found if one["source"] == "administrators"
    } == {(role, 22, network) for role in HOSTS for network in networks}


def test_hosts_call_the_internet_for_the_web_and_nervous_for_mail(evaluate: Evaluate) -> None:
    found = {(one["role"], one["port"]) for one in evaluate("local.to_internet", smtp_port=465).values()}
    assert found == {(role, port) for role in HOSTS for port in (80, 443)} | {("nervous", 465)}


def test_rules_use_what_was_worked_out(parsed: dict[str, list[dict[str, Any]]]) -> None:
    """The maps above are all that opens a port: groups have no rules inline, nor does any other resource."""
    groups = resources(parsed, "aws_security_group")
    assert all({"ingress", "egress"}.isdisjoint(group) for group in groups.values())
    assert not resources(parsed, "aws_security_group_rule")
    incoming = resources(parsed, "aws_vpc_security_group_ingress_rule")
    outgoing = resources(parsed, "aws_vpc_security_group_egress_rule")
    assert {name: _one(rule["for_each"]) for name, rule in incoming.items()} == {
        "peer": "${local.from_peers}",
        "network": "${local.from_networks}",
    }
    assert {name: _one(rule["for_each"]) for name, rule in outgoing.items()} == {
        "peer": "${local.from_peers}",
        "internet": "${local.to_internet}",
    }
    for rule in (*incoming.values(), *outgoing.values()):
        assert _one(rule["ip_protocol"]) == "tcp"
        assert _one(rule["from_port"]) == _one(rule["to_port"]) == "${each.value.port}"
    default = resources(parsed, "aws_default_security_group")["this"]
    assert set(default) == {"vpc_id"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("administrators", ["0.0.0.0/0"]),
        ("administrators", ["anywhere"]),
        ("archive_prefix", "a/b"),
        ("archive_prefix", ""),
        ("availability_zone", "us-east-1a"),
        ("bucket", "Films"),
        ("hosts", {"workhorse": {"instance_type": "t3.large", "system_gib": 20, "data_gib": 20}}),
        ("log_days", 0),
        ("name", "Films!"),
        ("network", "10.0.0.0/28"),
        ("network", "10.0.0.0/8"),
        ("region", "Frankfurt"),
        ("registry", "https://ghcr.io/example"),
        ("release", "main"),
        ("release", "v1.0.0; reboot"),
        ("repository", "https://me:secret@example.org/marquee.git"),
        ("repository", "git@example.org:marquee.git"),
        ("site", "https://films.example.org"),
        ("smtp_port", 25),
        ("tls", "somebody"),
        ("undelete_days", 0),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(evaluate: Evaluate, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Invalid value for variable[\s\S]*var\.{name}"):
        evaluate("1", **{name: value})


@pytest.mark.skipif(sys.platform != "linux", reason="hosts run Linux")
@pytest.mark.parametrize("role", HOSTS)
def test_first_start_writes_the_settings_and_then_brings_the_host_up(
    evaluate: Evaluate, tmp_path: Path, role: str
) -> None:
    """The script is run as hosts run it, with the real `deploy/bin/init`, and again, but hardens nothing."""
    checkout = tmp_path / "opt" / "marquee"
    (checkout / "deploy" / "bin").mkdir(parents=True)
    shutil.copytree(AWS.parent / "hardening", checkout / "deploy/hardening")
    shutil.copy(AWS.parent / "hosts.json", checkout / "deploy")
    shutil.copytree(
        AWS.parent / "compose", checkout / "deploy/compose", ignore=shutil.ignore_patterns("secrets", ".env")
    )
    shutil.copy(AWS.parent / "bin" / "init", checkout / "deploy/bin")
    up = checkout / "deploy/bin/up"
    up.write_text('#!/bin/sh\necho "up $*"\n')
    up.chmod(0o755)
    (tmp_path / "key").write_text("a key")
    script = evaluate(f'local.start["{role}"]').replace("/opt/marquee", str(checkout))
    script = script.replace("deploy/hardening/apply", "echo apply")
    options = ["--operator-key", str(tmp_path / "key")] if role == "controltower" else []
    settings = checkout / "deploy/compose/.env"
    hardened = []
    for version in ("0.2.0", "0.3.0"):
        ended = subprocess.run(
            ["bash", "-c", script, "start", *options], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.endswith(f"up {role}\n")
        hardened += [line for line in ended.stdout.splitlines() if line.startswith("apply ")]
        assert f"\nMARQUEE_VERSION={version}\n" in settings.read_text("utf-8"), "what a release wrote is gone"
        settings.write_text(settings.read_text("utf-8").replace("=0.2.0", "=0.3.0"))
    lines = settings.read_text("utf-8").splitlines()
    found = dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#"))
    assert len(found) == sum("=" in line and not line.startswith("#") for line in lines)
    wanted = evaluate(f'local.settings["{role}"]')
    assert found.items() >= (wanted | {"MARQUEE_VERSION": "0.3.0"}).items()
    assert ("MARQUEE_OBJECTS__URL" in wanted) == (role == "workhorse")
    assert "COMPOSE_PROFILES" not in found

    def plan(*options: str) -> str:
        program = checkout / "deploy/hardening/apply"
        return subprocess.run(
            [program, *options], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
        ).stdout

    # Once: what people change afterwards stays. Peers are then had from the settings.
    [first] = hardened
    closed = plan(*first.split()[1:], "--dry-run")
    assert "rule  allow from 10.20.0." in closed
    assert "SSH" not in re.findall("marquee: (.+)'", closed)
    page = (REPOSITORY / "docs/aws.md").read_text("utf-8")
    [documented] = re.findall(r"sudo /opt/marquee/deploy/hardening/apply (.+)", page)
    opened = plan(*documented.replace("workhorse", role).split())
    assert "rule  allow from 203.0.113.7 to any port 22 proto tcp comment 'marquee: SSH'" in opened
    assert [line for line in closed.splitlines() if line.startswith("rule")] == [
        line for line in opened.splitlines() if line.startswith("rule") and "SSH" not in line
    ]


def test_first_start_lets_administrators_through_the_hosts_own_firewall(evaluate: Evaluate) -> None:
    script = evaluate('local.start["nervous"]', administrators=["203.0.113.7/32", "198.51.100.0/24"])
    assert "--admins '203.0.113.7/32' '198.51.100.0/24'\n" in script


def test_hosts_have_addresses_of_their_subnets(evaluate: Evaluate) -> None:
    found = evaluate("{ addresses = local.addresses, subnets = local.subnets }", network="10.99.0.0/26")
    networks = {role: ip_network(subnet) for role, subnet in found["subnets"].items()}
    assert set(networks) == set(HOSTS)
    for role, network in networks.items():
        address = ip_address(found["addresses"][role])
        # The first four and the last are AWS's.
        assert address in list(network.hosts())[3:-1]
        assert not any(network.overlaps(other) for name, other in networks.items() if name != role)


@pytest.mark.parametrize("role", HOSTS)
def test_user_data_is_a_script_without_traps(evaluate: Evaluate, lint_python: Path, role: str) -> None:
    given = f"""{{
      role = "{role}", volume = "vol0123456789abcdef", repository = var.repository, release = var.release,
      start = local.start["{role}"]
    }}"""
    script = evaluate(f'templatefile("${{path.module}}/user-data.sh.tftpl", {given})')
    assert len(script.encode()) < 16 << 10, "EC2 takes no more"
    for text in (script, evaluate(f'local.start["{role}"]')):
        said = subprocess.run(
            [lint_python.parent / "shellcheck", "-"], input=text, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stdout


def test_variables_and_outputs_explain_themselves(parsed: dict[str, list[dict[str, Any]]]) -> None:
    for entry in parsed["variable"]:
        ((name, body),) = entry.items()
        assert len(_one(body["description"])) > 20, name
        assert body["type"], name
    for entry in parsed["output"]:
        ((name, body),) = entry.items()
        assert len(_one(body["description"])) > 20, name


def test_no_secret_and_no_account_is_written_down() -> None:
    assert not re.search(
        r"\b\d{12}\b|\bA(KIA|SIA)[A-Z0-9]{12,}|PRIVATE KEY|://[^/\s\"]+:[^/\s\"]+@", _all_text()
    )


def test_workhorse_may_ask_of_s3_what_the_archive_asks(parsed: dict[str, list[dict[str, Any]]]) -> None:
    """The requests are read from the source, so that neither can change alone."""
    needed: set[str] = set()
    for call in _calls(REPOSITORY / "src/marquee/store/remote.py"):
        assert isinstance(call.func, ast.Attribute)
        needed |= REQUESTS[call.func.attr]
        if any(word.arg == "use_multipart" and ast.literal_eval(word.value) for word in call.keywords):
            needed.add("s3:AbortMultipartUpload")
    granted = statements(parsed, "archive")
    by_action = {action: one["resources"] for one in granted for action in _flat(one["actions"])}
    assert {action for action in by_action if action.startswith("s3:")} == needed
    assert set(by_action) - needed == {"kms:Decrypt", "kms:GenerateDataKey"}
    for action, where in by_action.items():
        if action == "s3:ListBucket":
            assert _flat(where) == ["${aws_s3_bucket.archive.arn}"]
        elif action in needed:
            assert _flat(where) == ["${aws_s3_bucket.archive.arn}/${var.archive_prefix}/*"]
        else:
            assert _flat(where) == ["${aws_kms_key.data.arn}"]
    assert all(one.get("effect", ["Allow"]) == ["Allow"] for one in granted)


def test_other_hosts_may_only_be_reached_by_session_manager(parsed: dict[str, list[dict[str, Any]]]) -> None:
    assert not resources(parsed, "aws_iam_role_policy_attachment")
    policies = resources(parsed, "aws_iam_role_policy")
    assert set(policies) == {"session", "archive"}
    assert _one(policies["archive"]["role"]) == '${aws_iam_role.host["workhorse"].id}'
    (session,) = statements(parsed, "session")
    assert {action.split(":")[0] for action in _flat(session["actions"])} == {"ssm", "ssmmessages"}
    assert not [action for action in _flat(session["actions"]) if "Get" in action or "*" in action]


def test_lifecycle_ends_no_object_that_a_backup_may_need(parsed: dict[str, list[dict[str, Any]]]) -> None:
    """Objects of tables are shared by backups of all ages: only pruning knows which may go."""
    rules = resources(parsed, "aws_s3_bucket_lifecycle_configuration")["archive"]["rule"]
    for rule in rules:
        assert not {"transition", "noncurrent_version_transition"} & set(rule)
        for expiration in rule.get("expiration", []):
            assert set(expiration) == {"expired_object_delete_marker"}
    (kept,) = (one for rule in rules for one in rule.get("noncurrent_version_expiration", []))
    assert _one(kept["noncurrent_days"]) == "${var.undelete_days}"
    for kind, name in (("aws_s3_bucket", "archive"), ("aws_kms_key", "data")):
        assert _one(_one(resources(parsed, kind)[name]["lifecycle"])["prevent_destroy"]) is True


def test_buckets_are_private_encrypted_and_versioned(parsed: dict[str, list[dict[str, Any]]]) -> None:
    buckets = set(resources(parsed, "aws_s3_bucket"))
    assert buckets == {"archive", "logs"}
    for part in (
        "aws_s3_bucket_lifecycle_configuration",
        "aws_s3_bucket_ownership_controls",
        "aws_s3_bucket_policy",
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_versioning",
    ):
        assert set(resources(parsed, part)) == buckets, part
    for block in resources(parsed, "aws_s3_bucket_public_access_block").values():
        switches = {name: _one(value) for name, value in block.items() if name not in {"bucket"}}
        assert len(switches) == 4
        assert all(value is True for value in switches.values())


def test_hosts_begin_safe(parsed: dict[str, list[dict[str, Any]]]) -> None:
    (host,) = resources(parsed, "aws_instance").values()
    metadata, root = _one(host["metadata_options"]), _one(host["root_block_device"])
    assert _one(metadata["http_tokens"]) == "required"
    assert _one(root["encrypted"]) is True
    assert _one(root["volume_type"]) == "gp3"
    assert _one(host["disable_api_termination"]) == "${var.termination_protection}"
    (disk,) = resources(parsed, "aws_ebs_volume").values()
    assert _one(disk["encrypted"]) is True
    assert _one(disk["final_snapshot"]) is True
    assert set(_flat(_one(host["lifecycle"])["ignore_changes"])) == {"${ami}", "${user_data}"}


def _calls(path: Path) -> Iterator[ast.Call]:
    """Calls of functions of obstore that ask a store for something."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("obstore."):
            yield node


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def _all_text() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(AWS.iterdir()) if path.is_file())
