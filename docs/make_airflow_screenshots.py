"""
Takes the picture docs/images/airflow-failed-and-recovered.png of a real Airflow: `make screenshots`.

A run finds no API and fails, the API comes back, and the next run is green; then the grid of both is shown.
"""

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/dags"))

from airflow_world import DAG, World  # noqa: E402

PICTURE = REPOSITORY / "docs/images/airflow-failed-and-recovered.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
COLOURS = 128


def main() -> None:
    """Let a run fail and one succeed, and take the picture."""
    python = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / ".venv-airflow/bin/python")
    with tempfile.TemporaryDirectory(prefix="marquee-pictures-") as folder:
        world = World(Path(folder), python.absolute())
        try:
            world.start_airflow()
            world.ended(world.trigger())
            world.start_marquee()
            world.ended(world.trigger())
            take(f"http://127.0.0.1:{world.airflow_port}", world.password)
        finally:
            world.close()


def take(url: str, password: str) -> None:
    """Log in as a person does and photograph the grid."""
    found = next(path for path in map(shutil.which, BROWSERS) if path is not None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
        page.goto(f"{url}/auth/login")
        page.locator("input[name=username]").fill("admin")
        page.locator("input[name=password]").fill(password)
        page.locator("button[type=submit]").click()
        page.wait_for_url(lambda address: "/auth/" not in address)
        page.wait_for_load_state("networkidle")
        page.goto(f"{url}/dags/{DAG}")
        page.get_by_text("batch_inference").first.wait_for()
        page.wait_for_load_state("networkidle")
        shot = page.screenshot()
        browser.close()
    image = Image.open(BytesIO(shot)).convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS)
    image.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
