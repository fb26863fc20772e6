"""
Makes `promtail.yml` from the stages of `../alloy/config.alloy`: `make dashboards`.

Promtail reached its end of life in March 2026. Who still runs it gets the same labels, ids and metrics. With
`--check` it says whether the file is stale, and writes nothing.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERE = Path(__file__).parent
WORD: Final = re.compile(r'\s+|//[^\n]*|(?P<word>"(?:\\.|[^"\\])*"|[\w.]+|[{}\[\](),=])')
Block = list[tuple[str, Any]]
"""What a block says, in order: arguments and, by their kind, blocks."""

HEAD: Final = """\
# Promtail for Marquee, for those who still run it: promtail -config.file=promtail.yml -config.expand-env=true
#
# Made from deploy/alloy/config.alloy by `make dashboards`; do not edit. The variables are those named there.

server: {http_listen_address: 127.0.0.1, http_listen_port: 9080, grpc_listen_port: 0, log_level: warn}

positions: {filename: /var/lib/promtail/positions.yml}

clients:
  - url: ${LOKI_URL:-http://127.0.0.1:3100/loki/api/v1/push}
    external_labels: {host: "${MARQUEE_AGENT_HOST:-localhost}"}

scrape_configs:
  - job_name: containers
    docker_sd_configs:
      - {host: "unix:///var/run/docker.sock", refresh_interval: 15s}
    relabel_configs:
      - {source_labels: [__meta_docker_container_name], regex: /(.*), target_label: service}
      - source_labels: [__meta_docker_container_label_com_docker_compose_service]
        regex: (.+)
        target_label: service
    pipeline_stages: &stages
"""
TAIL: Final = """
  - job_name: files
    static_configs:
      - labels:
          service: marquee
          __path__: "${MARQUEE_LOG_FILES:-/var/log/marquee/*.log}"
          __path_exclude__: /var/log/marquee/proxy*.log
      - labels: {service: proxy, __path__: /var/log/marquee/proxy.log}
    pipeline_stages: *stages
"""


def rendered(alloy: str) -> str:
    """Promtail's configuration with the stages of Alloy's."""
    (lines,) = [value for name, value in parse(alloy) if name == "loki.process"]
    # JSON is YAML; and `$` would be a variable.
    stages = [f"      - {json.dumps(stage).replace('$', '$$')}\n" for stage in stages_of(lines)]
    return HEAD + "".join(stages) + TAIL


def stages_of(block: Block) -> Iterator[dict[str, Any]]:
    """Promtail's stages for those of a block."""
    for name, value in block:
        if not name.startswith("stage."):
            continue
        kind, arguments = name.removeprefix("stage."), dict(value)
        if kind in ("labels", "structured_metadata"):
            yield {kind: arguments["values"]}
        elif kind == "match":
            yield {kind: {"selector": arguments["selector"], "stages": [*stages_of(value)]}}
        elif kind == "metrics":
            yield {kind: dict(_metric(dict(counter)) for _, counter in value)}
        else:
            yield {kind: arguments}


def parse(text: str) -> Block:
    """The blocks and arguments of Alloy's syntax, as far as our file uses it; calls become None."""
    words = [match["word"] for match in WORD.finditer(text) if match["word"]]
    return _body(iter([*words, "}"]))


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    check = parser.parse_args().check
    path = HERE / "promtail.yml"
    made = rendered((HERE.parent / "alloy" / "config.alloy").read_text("utf-8"))
    if not check:
        path.write_text(made, "utf-8")
    elif not path.is_file() or path.read_text("utf-8") != made:
        sys.stderr.write("deploy/promtail/promtail.yml is stale. Run: make dashboards\n")
        return 1
    return 0


def _metric(counter: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    names = ("match_all", "action", "count_entry_bytes")
    config = {name: counter[name] for name in names if name in counter}
    about = {"type": "Counter", "description": counter["description"], "prefix": counter["prefix"]}
    return counter["name"], {**about, "config": config}


def _body(words: Iterator[str]) -> Block:
    found: Block = []
    for name in words:
        if name == "}":
            break
        following = next(words)
        if following == "=":
            found.append((name, _value(next(words), words)))
        else:
            if following != "{":  # the label of a block
                assert next(words) == "{"
            found.append((name, _body(words)))
    return found


def _value(word: str, words: Iterator[str]) -> Any:
    if word == "{":
        return dict(_pairs(words))
    if word == "[":
        return [*_items(words)]
    if word.startswith('"'):
        return json.loads(word)
    if word in ("true", "false"):
        return word == "true"
    if word in ("coalesce", "constants.hostname"):
        if word == "coalesce":
            _skip_call(words)
        return None
    return word


def _pairs(words: Iterator[str]) -> Iterator[tuple[str, Any]]:
    for name in words:
        if name == "}":
            return
        if name != ",":
            assert next(words) == "="
            yield name, _value(next(words), words)


def _items(words: Iterator[str]) -> Iterator[Any]:
    for word in words:
        if word == "]":
            return
        if word != ",":
            yield _value(word, words)


def _skip_call(words: Iterator[str]) -> None:
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return


if __name__ == "__main__":
    sys.exit(main())
