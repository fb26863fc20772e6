"""What a viewer does, from the first visit on."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

INCEPTION = 27205
HANGUL = re.compile("[가-힣]")
ROWS = ("For you", "Latest recommendations", "Trending")


def test_newcomer_finds_films_acts_on_them_and_takes_it_back(open_page):
    page = open_page("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Which films do you love?")
    picks = page.get_by_role("list", name="Films to choose from").get_by_role("button")
    finish = page.get_by_role("button", name="Show my films")
    expect(finish).to_be_disabled()
    picks.first.focus()
    for _ in range(3):  # by keyboard: one after another
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
    expect(page.get_by_text("3 films picked")).to_be_visible()
    liked = [picks.nth(place).inner_text() for place in range(3)]
    finish.click()

    for_you = row(page, "For you")
    expect(for_you.get_by_role("article").first).to_be_visible()
    assert not set(liked) & set(titles(page, "For you"))
    expect(page.get_by_role("heading", name=re.compile("Because you like"))).not_to_have_count(0)

    # What is hidden leaves its row at once, and comes back by "undo".
    gone = titles(page, "For you")[0]
    first = for_you.get_by_role("article").first
    first.hover()
    first.get_by_role("button", name="Not interested in").click()
    expect(for_you.get_by_role("link").filter(has_text=gone)).to_have_count(0)
    expect(page.get_by_text(f"{gone} will not be shown again", exact=True)).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(for_you.get_by_role("link").filter(has_text=gone)).not_to_have_count(0)

    # A film opens over the page, is rated, and closes with the page as it was.
    opened = titles(page, "For you")[1]
    for_you.get_by_role("article").nth(1).get_by_role("link").click()
    sheet = page.get_by_role("dialog", name=opened)
    expect(sheet.get_by_role("heading", name="Similar films")).to_be_visible()
    assert "/films/" in page.url
    sheet.get_by_text("8 of 10", exact=True).locator("..").click()
    expect(sheet.get_by_text("Your rating: 8")).to_be_visible()
    sheet.get_by_role("button", name="Take back").click()
    expect(sheet.get_by_text("Rate it")).to_be_visible()
    page.go_back()
    expect(sheet).to_have_count(0)
    expect(for_you).to_be_visible()


def test_language_and_theme_are_switched_and_kept(open_page):
    page = open_page(f"/films/{INCEPTION}", color_scheme="light")
    heading = page.get_by_role("main").get_by_role("heading", level=1)
    expect(heading).to_have_text("Inception")
    light = background(page)
    page.get_by_role("button", name="한국어").click()
    expect(heading).to_have_text("인셉션")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.get_by_role("button", name=re.compile("^테마")).click()
    page.get_by_role("button", name=re.compile("^테마")).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert background(page) != light
    page.reload()
    expect(heading).to_have_text("인셉션")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("contentinfo")).to_contain_text("TMDB")


def test_browser_in_korean_gets_korean_words_and_titles(open_page):
    page = open_page(None, locale="ko-KR")
    assert page.request.post("/v1/session", data={"user_id": 7}).ok
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("홈")
    for name in ("나를 위한 추천", "최신 추천", "지금 인기 있는 영화"):
        films = row(page, name).get_by_role("article")
        expect(films.first).to_be_visible()
        korean = [HANGUL.search(film.inner_text()) for film in films.all()]
        assert len(list(filter(None, korean))) >= 0.9 * len(korean)


def test_home_shows_no_film_twice(site, open_page):
    page = open_page("/", reduced_motion="reduce")
    act_as(page, 7)
    for name in ROWS:
        expect(row(page, name).get_by_role("article").first).to_be_visible()
    page.get_by_role(
        "link", name="Pick more films"
    ).scroll_into_view_if_needed()  # the last rows come when near
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)
    expect(page.get_by_role("heading", name=re.compile("Because you"))).not_to_have_count(0)
    rows = page.get_by_role("region").filter(has=page.get_by_role("article"))
    assert rows.count() >= 6
    links = page.get_by_role("article").get_by_role("link").all()
    films = [link.get_attribute("href") for link in links]
    assert len(films) >= 60
    assert len(films) == len(set(films))


def test_search_is_led_by_the_keyboard(open_page):
    page = open_page("/me")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your page")
    page.keyboard.press("/")
    field = page.get_by_role("combobox", name="Search films")
    expect(field).to_be_focused()
    page.keyboard.type("incep")
    option = page.get_by_role("listbox").get_by_role("option", name="Inception")
    expect(option).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/films/{INCEPTION}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Inception")

    page.keyboard.press("/")
    page.keyboard.type("인터스텔라")
    expect(page.get_by_role("listbox").get_by_role("option", name="Interstellar")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“인터스텔라”")
    expect(page.get_by_role("article").get_by_role("link")).to_contain_text("Interstellar")

    page.keyboard.press("/")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("no such film anywhere")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main").get_by_text("No film found for")).to_be_visible()


def test_filters_of_the_search_are_in_its_address(open_page):
    page = open_page("/search")
    page.get_by_role("group", name="Genres").get_by_text("Animation").click()
    page.get_by_label("From", exact=True).fill("2010")
    expect(page).to_have_url(re.compile("Animation.*2010"))
    films = page.get_by_role("main").get_by_role("article")
    expect(films.filter(has_text="Coco")).to_have_count(1)
    expect(films.filter(has_text="Spirited Away")).to_have_count(0)
    page.reload()
    expect(films.filter(has_text="Coco")).to_have_count(1)
    expect(films.filter(has_text="Spirited Away")).to_have_count(0)
    page.get_by_role("button", name="Clear filters").click()
    expect(page.get_by_role("checkbox", name="Animation")).not_to_be_checked()


def test_answer_of_the_predictor_leads_the_latest_recommendations_at_once(open_page):
    page = open_page("/predictor")
    page.get_by_role("combobox", name="Film", exact=True).click()
    page.keyboard.type("incep")
    expect(page.get_by_role("option", name="Inception", selected=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Popularity")).not_to_have_value("")
    page.get_by_role("button", name="Watched in full").click()
    page.get_by_role("button", name="Predict", exact=True).click()
    answer = page.get_by_role("region", name="What comes next").get_by_role("article")
    expect(answer).to_have_count(12)
    predicted = [link.get_attribute("href") for link in answer.get_by_role("link").all()]
    latest = row(page, "Latest recommendations").get_by_role("article")
    for place, film in enumerate(predicted[:5]):
        expect(latest.nth(place).get_by_role("link")).to_have_attribute("href", str(film))


def test_predictor_says_what_is_missing(open_page):
    page = open_page("/predictor")
    page.get_by_role("button", name="Predict", exact=True).click()
    field = page.get_by_role("combobox", name="Film", exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("Choose a film.")).to_be_visible()


def test_demo_user_can_be_played_and_left(open_page):
    page = open_page("/me")
    expect(page.get_by_text("No history yet")).to_be_visible()
    act_as(page, 7)
    expect(page.get_by_role("region", name="User 7")).to_be_visible()
    expect(page.get_by_role("region", name="History").get_by_role("listitem")).not_to_have_count(0)
    page.get_by_role("complementary", name="Demo user").get_by_role("button", name="Back to myself").click()
    expect(page.get_by_text("No history yet")).to_be_visible()
    expect(page.get_by_role("complementary", name="Demo user")).to_have_count(0)


def test_viewer_sees_exports_and_erases_what_is_kept(site, open_page):
    page = open_page(f"/films/{INCEPTION}")
    page.get_by_role("button", name="I watched it").click()
    page.get_by_role("button", name="Mark as watched").click()
    expect(page.get_by_role("button", name="Watched 148 min")).to_be_visible()
    page.get_by_role("link", name="Your page").click()
    history = page.get_by_role("region", name="History").get_by_role("listitem")
    expect(history).to_have_count(1)
    expect(history).to_contain_text("Inception")

    with page.expect_download() as download:
        page.get_by_role("button", name="Export my data").click()
    assert re.fullmatch(r"marquee-user-\d+\.json", download.value.suggested_filename)
    export = download.value.path().read_text("utf-8")
    assert str(INCEPTION) in export
    user = page.evaluate("fetch('/v1/session').then(answer => answer.json())")["user_id"]

    page.get_by_role("button", name="Forget me").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget me for good").click()
    expect(page.get_by_text("You are forgotten", exact=True)).to_be_visible()
    with site.client() as client:
        kept = client.get(f"/v1/users/{user}/export").json()
    assert kept["profile"][0]["erased_at"]
    assert kept["interactions"] == []
    page.get_by_role("link", name="Your page").click()
    expect(page.get_by_text("No history yet")).to_be_visible()


def act_as(page: Page, user: int) -> None:
    """Become a demo user, by the button of the header."""
    page.get_by_role("banner").get_by_role("button", name="Switch demo user").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile(f"^User {user}\\b")).click()
    expect(page.get_by_text(f"You are acting as user {user}").first).to_be_visible()


def row(page: Page, name: str):
    """A row of films by its heading."""
    return page.get_by_role("region", name=name, exact=True)


def titles(page: Page, name: str) -> list[str]:
    """What is in a row."""
    found: list[str] = (
        row(page, name)
        .locator("article > a")
        .evaluate_all("links => links.map(link => link.innerText.split('\\n').at(-2))")
    )
    return found


def background(page: Page) -> str:
    """Colour behind everything."""
    colour: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return colour
