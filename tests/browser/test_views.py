"""What holds for every view: axe finds nothing, it fits every screen, its address opens it again."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

VIEWER = ["/", "/welcome", "/films/27205", "/search?q=the", "/predictor", "/me", "/nowhere"]
CONSOLE = [
    "/ops",
    "/ops/monitoring",
    "/ops/runs",
    "/ops/runs/{run}",
    "/ops/data",
    "/ops/catalogue",
    "/ops/models",
    "/ops/models/{version}",
    "/ops/models/compare?a={version}&b={version}&user=1",
    "/ops/experiments",
    "/ops/people",
    "/ops/people/1",
]

# Rows further down wait until somebody comes near.
ARRIVED = """
    () => ![...document.querySelectorAll("[aria-busy=true]")].some(
        element => element.getBoundingClientRect().top < innerHeight)
"""


@pytest.fixture(scope="module")
def ids(trusting_site) -> dict[str, str]:
    """Ids of what addresses of the console name."""
    with trusting_site.client() as client:
        return {
            "run": client.get("/v1/runs", params={"limit": 1}).json()["runs"][0]["run_id"],
            "version": client.get("/v1/models").json()["models"][0]["version"],
        }


@pytest.mark.parametrize("view", VIEWER + CONSOLE)
def test_axe_finds_nothing_in_either_theme_and_a_reload_shows_the_view_again(
    trusting_site, ids, open_page, axe, view
):
    page = open_page(None, at=trusting_site, reduced_motion="reduce", color_scheme="light")
    become_somebody(page, view)
    page.goto(view.format(**ids))
    title = settled(page)
    axe(page)
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert settled(page) == title
    axe(page)


@pytest.mark.parametrize("view", VIEWER + CONSOLE)
def test_nothing_runs_out_of_a_page_320_or_1920_pixels_wide(trusting_site, ids, open_page, view):
    page = open_page(None, at=trusting_site, width=320, height=640, reduced_motion="reduce")
    become_somebody(page, view)
    page.goto(view.format(**ids))
    settled(page)
    assert overflowing(page) == []
    page.set_viewport_size({"width": 1920, "height": 1080})
    settled(page)
    assert overflowing(page) == []


def become_somebody(page: Page, view: str) -> None:
    """A newcomer is asked for films in place of the home page; nobody else is."""
    if view != "/welcome":
        assert page.request.post("/v1/session", data={"user_id": 7}).ok


def settled(page: Page) -> str:
    """Wait until everything that is on its way is there; the page's heading."""
    heading = page.get_by_role("main").get_by_role("heading", level=1)
    expect(heading).not_to_be_empty()
    page.wait_for_function(ARRIVED)
    return heading.inner_text()


def overflowing(page: Page) -> list[str]:
    """What makes the page scroll sideways: what lies beyond its right edge and no ancestor cuts off."""
    result: list[str] = page.evaluate(
        """() => {
            const root = document.scrollingElement;
            if (root.scrollWidth <= root.clientWidth) return [];
            const cut = element => {
                for (let at = element.parentElement; at && at !== root; at = at.parentElement)
                    if (getComputedStyle(at).overflowX !== "visible") return true;
                return false;
            };
            const wide = [...document.body.querySelectorAll("*")].filter(
                element => element.getBoundingClientRect().right > root.clientWidth + 0.5 && !cut(element));
            const named = wide.slice(-5).map(element => element.outerHTML.slice(0, 200));
            return [`${root.scrollWidth} > ${root.clientWidth}`, ...named];
        }"""
    )
    return result
