"""The page in a real browser. It needs Chromium, which pip does not install: shell/browser_test.sh sets both up and names it in
QWENVL_CHROMIUM. Without that nothing here is collected, and the end of the test run says so."""

import os

import pytest

CHROMIUM = os.environ.get("QWENVL_CHROMIUM")
WAIT = 30_000  # milliseconds; nothing here takes so long

collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]

# Tells of what the content policy stopped, and of the shapes and the text that were there after each change.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective + " " + event.blockedURI));
window.seen = [];
new MutationObserver(() => {
  const answer = document.querySelector(".answer:last-child");
  const shapes = answer?.querySelectorAll(".stage g").length ?? 0;
  seen.push([shapes, answer?.querySelector(".prose").textContent.length ?? 0]);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


def pytest_terminal_summary(terminalreporter):
    if not CHROMIUM:
        terminalreporter.write_line("left out: tests/server/browser, because QWENVL_CHROMIUM names no browser")


@pytest.fixture(scope="session")
def address(server):
    """Of the page."""
    return f"{server.address}/"


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """open_page(**options of a browser's context): the page. Whatever it does, nothing is asked of another address, nothing is
    stopped by the content policy and nothing is complained of in the console."""
    contexts, complaints = [], []

    def complain(text):
        complaints.append(text)

    def open_page(**options):
        size = {"width": 1280, "height": 800}
        context = browser.new_context(**{"viewport": size, "locale": "en-US", "color_scheme": "light", **options})
        contexts.append(context)
        context.set_default_timeout(WAIT)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and complain(message.text))
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("request", lambda one: one.url.startswith((address, "blob:", "data:")) or complain(one.url))
        page.goto(address)
        page.wait_for_selector("#model option", state="attached")
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        for page in context.pages:
            complaints += page.evaluate("violations")
        context.close()
    assert complaints == []
