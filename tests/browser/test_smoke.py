"""The site opens in a real browser, with nothing to complain of."""

import httpx
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]


@pytest.mark.parametrize("path", ["/", "/ops"])
def test_page_opens_after_a_reload_too_and_axe_finds_nothing(open_page, axe, path):
    page = open_page(path, reduced_motion="reduce")
    for _ in range(2):
        expect(page.get_by_role("main")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).not_to_be_empty()
        assert page.title()
        axe(page)
        page.reload()


def test_policy_holds_in_the_browser(open_page, noise):
    page = open_page("/")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.broken = true";
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.broken") is None
    page.evaluate("fetch('http://elsewhere.invalid/').catch(() => null)")
    assert any("inline script violates" in text for text in noise.heard())
    assert any("Refused to connect" in text for text in noise.heard())
    noise.allow("Content Security Policy")
    assert noise.heard() == []


def test_api_can_be_stopped_and_started_again(site, open_page, noise):
    open_page("/")
    noise.allow(r"ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    site.stop_api()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{site.url}/health", trust_env=False)
    site.start_api()
    open_page("/")


def test_browser_on_a_machine_that_is_trusted_is_the_operators(trusting_site, open_page):
    page = open_page("/", at=trusting_site)
    assert page.evaluate("fetch('/v1/models').then(answer => answer.status)") == 200


def test_browser_without_a_key_is_a_stranger_where_there_are_keys(open_page, noise):
    page = open_page("/")
    assert page.evaluate("fetch('/v1/models').then(answer => answer.status)") in (401, 403)
    noise.allow(r"status of 40[13] .*/v1/models")
