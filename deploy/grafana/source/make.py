"""
Writes the dashboards as Grafana reads them: `make dashboards`.

With `--check` it says which of them are not what their sources make, and writes nothing.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from data_board import data
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from hosts_board import hosts
from logs_board import logs
from recommender_board import recommender
from service_board import service

FOLDER = Path(__file__).parent.parent / "dashboards"


def rendered() -> dict[str, str]:
    """File name → content, the same on every machine."""
    boards = (service(), recommender(), data(), hosts(), logs())
    return {
        f"{str(board.uid).removeprefix('marquee-')}.json": json.dumps(
            _as_of_today(json.loads(json.dumps(board, cls=JSONEncoder))),
            indent=2,
            sort_keys=True,
            ensure_ascii=False,
        )
        + "\n"
        for board in boards
    }


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is stale")
    check = parser.parse_args().check
    made = rendered()
    found = {path.name: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.json"))}
    stale = sorted(name for name in made | found if made.get(name) != found.get(name))
    if check:
        for name in stale:
            sys.stderr.write(f"deploy/grafana/dashboards/{name} is stale. Run: make dashboards\n")
        return bool(stale)
    for name in stale:
        if name in made:
            (FOLDER / name).write_text(made[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


def _as_of_today(board: dict[str, Any]) -> dict[str, Any]:
    """Without what the SDK writes and Grafana 12 knows no more."""
    for variable in board["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    for panel in board["panels"]:
        panel.get("options", {}).pop("footer", None)
    return board


if __name__ == "__main__":
    sys.exit(main())
