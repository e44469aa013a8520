"""The page of a server that asks for a key: its password opens the page, and the key is typed into it."""

import pytest
from page_driver import SHAPES, ask
from playwright.sync_api import expect
from served import Served

KEY = "a-key-of-some-length"
NEEDED = "The server asks for an API key. Enter it in the settings."
WRONG = "The server does not know this API key. Check it in the settings."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "keys").write_text(f"{KEY}\n")
    with Served(folder, "--api_key_file", str(folder / "keys")) as server:
        yield server


@pytest.fixture
def opened(browser, server):
    """The page, opened with the password."""
    context = browser.new_context(locale="en-US", http_credentials={"username": "any", "password": KEY})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(f"{server.address}/")
    yield page
    context.close()


def type_key(page, key: str):
    page.click("#open-settings")
    page.fill("[name=api_key]", key)
    page.keyboard.press("Escape")


def test_without_a_password_there_is_no_page(browser, server):
    context = browser.new_context()
    assert context.request.get(f"{server.address}/").status == 401
    context.close()


def test_a_key_that_is_missing_wrong_and_right(opened):
    expect(opened.locator("#notice")).to_have_text(NEEDED)
    ask(opened, "What do you see?", SHAPES)
    assert opened.locator(".answer .error").inner_text() == NEEDED
    type_key(opened, KEY[:-1])
    expect(opened.locator("#notice")).to_have_text(WRONG)
    opened.get_by_role("button", name="Answer again").click()
    expect(opened.locator(".answer .error")).to_have_text(WRONG)
    type_key(opened, KEY)
    opened.wait_for_selector("#model option", state="attached")
    expect(opened.locator("#notice")).to_have_text("")
    ask(opened, "Locate all shapes.", SHAPES)
    assert opened.locator(".answer:last-child .stage g").count() == 4


def test_a_key_is_kept_in_its_tab_alone(opened, server):
    opened.wait_for_selector("#notice:visible")
    type_key(opened, KEY)
    opened.wait_for_selector("#model option", state="attached")
    opened.reload()
    opened.wait_for_selector("#model option", state="attached")
    other = opened.context.new_page()
    other.goto(f"{server.address}/")
    expect(other.locator("#notice")).to_have_text(NEEDED)
