"""
Draws docs/images/up.svg: what a first `marquee up` and two requests really print.

Run it from the repository with the project's Python: .venv/bin/python docs/make_images.py
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import httpx
from rich.console import Console
from rich.json import JSON
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
SHOWN = "http://localhost:8000"
COLUMNS = 106
READY = "Ctrl-C stops everything."
EVENT = {"user_id": 1, "content_id": 27205, "watch_seconds": 5400, "rating": 8.5, "popularity": 191.7, "k": 2}


def main() -> None:
    """Start Marquee on an empty home, ask it, draw."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        output = Path(folder) / "output"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")},
            "MARQUEE_HOME": str(home),
            "MARQUEE_PORT": str(port),
            "COLUMNS": str(COLUMNS),
            "TTY_COMPATIBLE": "1",  # colours …
            "TTY_INTERACTIVE": "0",  # … but each bar once, as it ended
        }
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", "up"],
                env=environment,
                cwd=folder,
                stdout=out,
                stderr=out,
            )
        try:
            while READY not in output.read_text("utf-8"):
                if process.poll() is not None:
                    sys.exit(output.read_text("utf-8"))
                time.sleep(0.1)
            printed = output.read_text("utf-8")
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
                latest = client.get("/latest-recommendations?k=2").raise_for_status().text
                predicted = client.post("/predict", json=EVENT).raise_for_status().text
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    printed = printed.replace(str(home), "~/.marquee").replace(f"http://localhost:{port}", SHOWN)
    body = str(EVENT).replace("'", '"')
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "up.svg").write_text(
        _drawn(
            ("marquee up", Text.from_ansi(printed)),
            (f"curl '{SHOWN}/latest-recommendations?k=2'", JSON(latest)),
            (
                f"curl {SHOWN}/predict -H 'Content-Type: application/json' \\\n    -d '{body}'",
                JSON(predicted),
            ),
        ),
        "utf-8",
    )


def _drawn(*parts: tuple[str, object]) -> str:
    """A terminal with commands and what they printed."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for command, answer in parts:
        console.print(Text("$ ", style="green").append(command, style="bold white"))
        console.print(answer)
    drawing = console.export_svg(title="Marquee", unique_id="up")
    # The template would load its font from a server; every system has a monospaced one.
    drawing = re.sub(r"\s*@font-face \{.*?\}", "", drawing, flags=re.DOTALL)
    return re.sub(r"[ \t]+$", "", drawing, flags=re.MULTILINE)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
