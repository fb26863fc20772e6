"""
What Airflow costs: until the DAGs are seen, a pipeline whose runs do nothing, memory.

Every answer of Marquee's API is made up and comes at once, so that what is left is Airflow's own. Needs
`make setup-airflow`; without it nothing is measured.
"""

import re
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/dags"))

from airflow_world import World  # noqa: E402

RUNS = 3
COUNTS = {
    "items": 1,
    "interactions": 1,
    "version": "1",
    "verdict": "passed",
    "k": 1,
    "bundle": "none",
    "backup": "none",
}


def stand_in(method: str, path: str) -> dict[str, Any]:
    """An API whose runs have succeeded before they were asked for."""
    if path == "/health":
        return {"status": "ok", "database": "ok"}
    return {"run_id": path.rpartition("/")[2], "status": "succeeded", "counts": COUNTS}


def main() -> None:
    """Print the three figures."""
    python = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / ".venv-airflow/bin/python").absolute()
    if not python.is_file():
        print("skipped: make setup-airflow")
        return
    with tempfile.TemporaryDirectory(prefix="marquee-bench-") as folder:
        world = World(Path(folder), python)
        world.stand_in = stand_in
        try:
            world.start_airflow()
            found = re.search(r"visible after ([\d.]+) s; (\d+) MiB", world.said("airflow"))
            assert found is not None
            print(f"first start until marquee_pipeline is visible  {found[1]:>6} s, {found[2]} MiB")
            for _ in range(RUNS):
                run_id = world.trigger()
                tasks = world.ended(run_id)
                assert {task["state"] for task in tasks.values()} == {"success"}
                run = world.run(run_id)
                began, ended = (datetime.fromisoformat(run[name]) for name in ("queued_at", "end_date"))
                print(
                    f"six tasks that do nothing                      {(ended - began).total_seconds():6.1f} s"
                )
        finally:
            world.close()


if __name__ == "__main__":
    main()
