"""The site behind the edge: its pages from one place, the API from another, on one address with TLS."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

BUILT = Path(__file__).parents[2] / "src" / "marquee" / "api" / "site_files"


@pytest.fixture
def edge(
    proxied_site: Any, run_caddy: Callable[..., AbstractContextManager[Any]]
) -> Iterator[SimpleNamespace]:
    """The address of everything."""
    with run_caddy("site.Caddyfile", SITE_FOLDER=str(BUILT)) as web:
        upstreams = {
            "API_UPSTREAM": urlsplit(proxied_site.url).netloc,
            "WEB_UPSTREAM": urlsplit(web.url).netloc,
        }
        with run_caddy("Caddyfile", **upstreams, SITE_ADDRESS="127.0.0.1", SWAP_SECONDS="1") as caddy:
            yield caddy


def test_newcomer_gets_recommendations_through_the_edge(edge, open_page):
    page = open_page("/", at=edge, ignore_https_errors=True)
    picks = page.get_by_role("list", name="Films to choose from").get_by_role("button")
    for place in range(3):
        picks.nth(place).click()
    page.get_by_role("button", name="Show my films").click()
    for_you = page.get_by_role("region", name="For you")
    expect(for_you.get_by_role("article").first).to_be_visible()
    assert page.evaluate("fetch('/api/v1/session').then(answer => answer.status)") == 200
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("marquee_session", True, True)


def test_api_explains_itself_below_its_prefix(edge, open_page):
    page = open_page("/api/docs", at=edge, ignore_https_errors=True)
    expect(page.get_by_role("heading", name="Marquee")).to_be_visible()
    expect(page.locator(".servers option")).to_have_attribute("value", "/api")


def test_site_opens_without_the_api_and_finds_it_again(edge, open_page, noise, proxied_site):
    noise.allow(r"status of 50[234] ")
    proxied_site.stop_api()
    try:
        page = open_page("/", at=edge, ignore_https_errors=True)
        expect(page.get_by_role("main")).to_be_visible()
    finally:
        proxied_site.start_api()
    context = ssl.create_default_context(cafile=edge.authority)
    assert httpx.get(f"{edge.url}/api/health", verify=context, trust_env=False).json()["status"] == "ok"
    page.reload()
    expect(page.get_by_role("button", name="Show my films")).to_be_visible()
