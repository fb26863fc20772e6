"""The site while the service is away, and over a slow line."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

AWAY = r"ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED"
SLOW = {"offline": False, "latency": 300, "downloadThroughput": 200_000, "uploadThroughput": 95_000}
SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({type: "layout-shift", buffered: true});
"""


def test_site_says_that_the_service_is_away_and_goes_on_when_it_is_back(site, open_page, noise):
    noise.allow(AWAY)
    other = open_page("/search?q=the")
    expect(other.get_by_role("main").get_by_role("article").first).to_be_visible()
    page = viewer(open_page)
    films = page.get_by_role("region", name="For you", exact=True).get_by_role("article")
    expect(films.first).to_be_visible()
    banner = page.get_by_text("The service does not answer just now.")
    site.stop_api()
    try:
        # What is there stays; what is done is taken back, and said.
        before = films.count()
        films.first.hover()
        films.first.get_by_role("button", name="Not interested in").click()
        expect(banner).to_be_visible()
        expect(page.get_by_text("That did not arrive", exact=False).first).to_be_visible()
        expect(films).to_have_count(before)

        # A page that was not open before cannot even be fetched.
        page.get_by_role("combobox", name="Search films").fill("incep")
        page.keyboard.press("Enter")
        expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("tried again by itself")

        # Of one that was, what is missing says so, and can be asked for again.
        other.get_by_role("combobox", name="Search films").fill("incep")
        other.keyboard.press("Enter")
        failed = other.get_by_role("main").get_by_role("alert")
        failed.get_by_role("button", name="Try again").click()
        expect(failed).to_be_visible()
    finally:
        site.start_api()
    expect(banner).to_have_count(0)
    for found in (page, other):
        expect(found.get_by_role("main").get_by_role("article").first).to_contain_text("Inception")


def test_console_says_that_its_figures_are_old_while_the_service_is_away(site, open_page, noise):
    noise.allow(AWAY)
    page = open_page(None)
    page.add_init_script(f"sessionStorage.setItem('marquee.operator-key', '{site.operator_key}')")
    page.goto("/ops")
    database = page.get_by_role("main").get_by_text("Database", exact=True).first
    expect(database).to_be_visible()
    stale = page.get_by_text("These figures may be old")
    site.stop_api()
    try:
        expect(stale.first).to_be_visible()
        expect(database).to_be_visible()
    finally:
        site.start_api()
    expect(stale).to_have_count(0)


def test_slow_line_shows_places_of_films_first_and_nothing_jumps(open_page):
    page = viewer(open_page, None)
    page.add_init_script(SHIFTS)
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
    page.goto("/", wait_until="commit")
    expect(page.locator("main [aria-busy=true]").first).to_be_visible()
    expect(
        page.get_by_role("region", name="For you", exact=True).get_by_role("article").first
    ).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.shifts") <= 0.05


def viewer(open_page, path: str | None = "/") -> Page:
    """The home page of somebody with a history, unless they are to go elsewhere."""
    page: Page = open_page(None, reduced_motion="reduce")
    assert page.request.post("/v1/session", data={"user_id": 7}).ok
    if path is not None:
        page.goto(path)
    return page
