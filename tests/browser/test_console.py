"""What operators do in the console."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from marquee.config import Settings
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, monitoring, runs

pytestmark = [pytest.mark.browser, pytest.mark.integration]

RUN_SECONDS = 120
# Whether a film comes first for everybody, or does not.
FIRST = """
    async ([title, wanted]) => {
        const popular = await (await fetch("/v1/popular?k=1")).json();
        return (popular.items[0].title === title) === wanted;
    }
"""


def test_console_asks_for_a_key_and_refuses_wrong_ones_and_those_of_others(site, open_page, noise):
    noise.allow("status of 40[13]")
    page = open_page("/ops/models")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to the console")
    key, enter = page.get_by_label("API key", exact=True), page.get_by_role("button", name="Sign in")
    expect(enter).to_be_disabled()
    key.fill("mq_wrong")
    enter.click()
    expect(page.get_by_text("This key is not valid")).to_be_visible()
    key.fill(site.make_key("viewer"))
    enter.click()
    expect(page.get_by_text("This key has the role viewer")).to_be_visible()
    key.fill(str(site.operator_key))
    key.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")

    # It stays in this tab over a reload, and is gone when the operator leaves.
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to the console")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to the console")


def test_viewers_are_not_led_to_the_console(open_page):
    page = open_page("/")
    expect(page.get_by_role("main").get_by_role("heading", level=1)).not_to_be_empty()
    expect(page.get_by_role("link", name="Console")).to_have_count(0)


def test_operator_trains_judges_forces_and_rolls_back(site, open_page):
    page = signed_in(site, open_page, "/ops")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    for part in ("Database", "Worker", "Predictor", "Champion"):
        expect(page.get_by_role("main").get_by_text(part, exact=True).first).to_be_visible()

    # A run is started and watched to its end, with what it logs.
    go(page, "Runs")
    start(page, "Train", "popularity")
    expect(page.get_by_role("heading", level=1)).to_have_text("Train")
    expect(status(page)).to_have_text("Succeeded", timeout=RUN_SECONDS * 1000)
    lines = page.get_by_role("log")
    expect(lines).to_contain_text("popularity")
    assert lines.locator("time").count() >= 1
    go(page, "Runs")
    expect(page.get_by_role("table").get_by_role("row").nth(1)).to_contain_text("Succeeded")

    # The gate refuses a worse model, and says why.
    go(page, "Models")
    trained = page.get_by_role("row").filter(has_text="popularity").first
    before = page.get_by_role("row").filter(has_text="Champion").get_by_role("link").inner_text()
    trained.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Ask the gate, and promote").click()
    expect(dialog.get_by_text("Refused", exact=True)).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(dialog.get_by_role("listitem")).not_to_have_count(0)
    dialog.get_by_role("button", name="Close").last.click()
    expect(trained).to_contain_text("Refused")
    trained.get_by_role("link").click()
    report = page.get_by_role("main")
    expect(report.get_by_role("heading", name="Gate report")).to_be_visible()
    expect(report.get_by_role("table", name="Comparisons with the champion")).to_contain_text("NDCG")

    # Forced, with a reason; then rolled back.
    page.get_by_role("button", name="Promote").click()
    dialog.get_by_label("Force it, whatever the gate says").check()
    dialog.get_by_role("button", name="Force the promotion").click()
    expect(dialog.get_by_text("Say why the gate is overridden.")).to_be_visible()
    dialog.get_by_label("Reason (needed)").fill("a rehearsal")
    dialog.get_by_role("button", name="Force the promotion").click()
    expect(dialog.get_by_text("Forced", exact=True)).to_be_visible(timeout=RUN_SECONDS * 1000)
    dialog.get_by_role("button", name="Close").last.click()
    expect(report.get_by_role("table", name="Deployments")).to_contain_text("a rehearsal")
    go(page, "Models")
    champion = page.get_by_role("row").filter(has_text="Champion")
    expect(champion).to_contain_text("popularity")
    page.get_by_role("button", name="Roll back").click()
    dialog.get_by_label("Reason").fill("the rehearsal is over")
    dialog.get_by_role("button", name="Roll back").click()
    expect(dialog).to_have_count(0)
    expect(champion.get_by_role("link")).to_have_text(before, use_inner_text=True)


def test_operator_cancels_a_run(site, open_page):
    page = signed_in(site, open_page, "/ops/runs")
    start(page, "Train", "ials")
    page.get_by_role("button", name="Cancel the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    expect(status(page)).to_have_text("Cancelled", timeout=RUN_SECONDS * 1000)
    expect(page.get_by_role("button", name="Cancel the run")).to_have_count(0)


def test_second_run_of_a_pipeline_is_refused_in_the_dialog(site, open_page, noise):
    noise.allow("status of 409")
    page = signed_in(site, open_page, "/ops/runs")
    start(page, "Train", "ials")
    expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    first = page.url
    page.goto("/ops/runs")
    page.get_by_role("button", name="Start a run").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Pipeline").select_option(label="Train")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog.get_by_role("alert").filter(has_text=re.compile("."))).to_be_visible()
    page.goto(first)
    page.get_by_role("button", name="Cancel the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    expect(status(page)).to_have_text("Cancelled", timeout=RUN_SECONDS * 1000)


def test_operator_pins_blocks_and_adds_films(site, open_page):
    page = signed_in(site, open_page, "/ops/catalogue")
    sheet = find(page, "Coco")
    # It is checked when the API has said so.
    sheet.get_by_label("Pin", exact=True).click()
    expect(sheet.get_by_text("Pinned", exact=True)).to_be_visible()
    page.wait_for_function(FIRST, arg=["Coco", True], polling=200)
    sheet.get_by_label("Block", exact=True).click()
    expect(sheet.get_by_text("Blocked", exact=True)).to_be_visible()
    page.wait_for_function(FIRST, arg=["Coco", False], polling=200)
    for label in ("Block", "Pin"):
        expect(sheet.get_by_label(label, exact=True)).to_be_enabled()
        sheet.get_by_label(label, exact=True).click()
        expect(sheet.get_by_label(label, exact=True)).not_to_be_checked()
    expect(sheet.get_by_text("As the models say", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)

    page.get_by_role("button", name="Add a film").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_text("This is needed.").first).to_be_visible()
    dialog.get_by_label("Title", exact=True).fill("The Lighthouse Keeper's Cinema")
    dialog.get_by_label("Number", exact=True).fill("9000001")
    dialog.get_by_label("Genres", exact=True).fill("Drama, Comedy")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("dialog", name="The Lighthouse Keeper's Cinema")).to_be_visible()


def test_quarantine_shows_rejected_rows_and_why(site, open_page, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,content_id,watch_seconds,rating,timestamp\n7,27205,-5,99,2026-01-01T20:00:00Z\n")
    site.run("ingest", "interactions", str(log))
    page = signed_in(site, open_page, "/ops/data")
    reasons = page.get_by_role("table", name="Reasons")
    expect(reasons.get_by_role("row")).not_to_have_count(1)
    reasons.get_by_role("button", name="Show only these").first.click()
    page.get_by_role("listitem").locator("summary").first.click()
    expect(page.get_by_role("listitem").locator("details").first).to_contain_text("27205")


def test_operator_looks_at_a_user_and_compares_two_versions(site, open_page):
    page = signed_in(site, open_page, "/ops/people")
    page.get_by_label("User number").fill("7")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("User 7")
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    go(page, "Models")
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare two versions")
    page.get_by_label("User number").fill("7")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text(re.compile(r"of \d+ films are in both lists"))).to_have_count(2)


def test_drift_and_open_alerts_are_shown_until_they_are_over(site, open_page):
    with Database.open(Settings(home=site.home)) as database:
        with database.begin() as connection:
            alarm, run_id = drifted(connection)
        page = signed_in(site, open_page, "/ops")
        page.get_by_role("link", name="See monitoring").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Monitoring")
        alerts = page.get_by_role("table", name="Open alerts").get_by_role("row")
        expect(alerts.filter(has_text="Drift: taste")).to_contain_text("Warning")
        drift = page.get_by_role("table", name="Drift", exact=True).get_by_role("row")
        expect(drift.nth(1)).to_contain_text("Genres watched")
        expect(drift.nth(1)).to_contain_text("Horror 0.04 → 0.31")
        expect(drift.nth(1).get_by_role("img")).to_be_visible()
        expect(drift.filter(has_text="New films")).to_contain_text("Stable")
        quality = page.get_by_role("figure", name="Coverage")
        expect(quality.locator("svg").first).to_be_visible()
        quality.get_by_role("button", name="Table").press("Enter")
        expect(quality.get_by_role("table")).to_contain_text("34%")
        alarms = page.get_by_role("table", name="Alarms of drift").get_by_role("row")
        expect(alarms.filter(has_text="Taste").first).to_contain_text("Open")
        alarms.get_by_role("link", name=str(run_id)[:8]).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Whole pipeline")

        with database.begin() as connection:
            monitoring.resolve(
                connection, alarm, datetime.now(UTC), {**alarm.evidence, "resolved": "subsided"}
            )
    go(page, "Monitoring")
    expect(alarms.filter(has_text="Subsided")).to_have_count(1)
    expect(page.get_by_text("Nothing is wrong")).to_be_visible()
    go(page, "Overview")
    expect(page.get_by_role("link", name="See monitoring")).to_have_count(0)


def drifted(connection) -> tuple[monitoring.Alarm, Any]:
    """Keep what monitoring measures while taste drifts, and the run that trains anew because of it."""
    # Ahead of what the worker may measure meanwhile.
    now = datetime.now(UTC) + timedelta(minutes=5)
    quality = dict.fromkeys(("popularity_share", "cold_users", "fallback", "quarantine_share"), 0.1)
    quality |= {"answers": 5210, "coverage": 0.34, "gini": 0.82, "novelty_bits": 9.1}
    quality |= {"label_delay_seconds": {}, "outcomes": {}, "newest_event_seconds": 3.0}
    for hour in range(48, -1, -2):
        signals = [
            measured("new_releases", "new_releases", 0.02, {}),
            measured("taste", "genre", 0.5 - hour / 100, {"genres": {"Horror": [0.04, 0.31]}}),
        ]
        values = {"drift": signals, "quality": quality, "skew": None}
        monitoring.append(connection, now - timedelta(hours=hour), 0.4, values, keep=timedelta(days=400))
    champion = deployments.current(connection, "champion")
    assert champion is not None
    evidence = {**signals[1], "bundle": champion.bundle, "since": None}
    alarm = monitoring.raise_alarm(connection, "taste", now - timedelta(minutes=30), evidence)
    run = runs.create(connection, "pipeline", {"drift_alarm": alarm.alarm_id})
    monitoring.set_run(connection, alarm.alarm_id, run.run_id)
    runs.start(connection, run.run_id)
    runs.finish(connection, run.run_id)
    return alarm, run.run_id


def measured(kind: str, feature: str, effect: float, detail: dict[str, Any]) -> dict[str, Any]:
    """A signal as monitoring keeps it."""
    figures = {
        "psi": effect,
        "p_value": 0.0004,
        "effects": [effect, effect],
        "threshold": 0.2,
        "events": 900.0,
    }
    shown = effect >= 0.2
    marks = {"exceeded": [shown, shown], "alarming": shown}
    return {"kind": kind, "feature": feature, "detail": detail, **figures, **marks}


def signed_in(site, open_page, path: str) -> Page:
    """A page of the console with the operator's key."""
    page: Page = open_page(None)
    page.add_init_script(f"sessionStorage.setItem('marquee.operator-key', '{site.operator_key}')")
    page.goto(path)
    return page


def go(page: Page, name: str) -> None:
    """To a page of the console, by its menu."""
    page.get_by_role("navigation", name="Console pages").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def start(page: Page, pipeline: str, model: str) -> None:
    """Start a run in the dialog; the page is the run's then."""
    page.get_by_role("button", name="Start a run").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Pipeline").select_option(label=pipeline)
    dialog.get_by_label("Model").fill(model)
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(page).to_have_url(re.compile(r"/ops/runs/[0-9a-f-]{36}$"))


def status(page: Page) -> Locator:
    """How far the run of a page is: its one step."""
    return page.get_by_role("list", name="Steps").get_by_text(
        re.compile("^(Queued|Running|Succeeded|Failed|Cancelled)")
    )


def find(page: Page, title: str) -> Locator:
    """Find a film in the catalogue and open it."""
    page.get_by_label("Title or number").fill(title)
    page.get_by_role("button").filter(has=page.get_by_text(title, exact=True)).click()
    return page.get_by_role("dialog", name=title)
