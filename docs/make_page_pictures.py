"""Pictures of the server's page, into docs/gallery. Needs Playwright and Chromium (shell/browser_test.sh) and a server of the demo:

paddlemix-qwenvl serve --model_path demo
PYTHONPATH=../tests/server/browser python make_page_pictures.py http://127.0.0.1:8000/
"""

import io
import sys
from pathlib import Path

from page_driver import INPUTS, ask, scripted
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "paddlemix_qwenvl" / "server" / "page" / "sample.png"
DESK = {"viewport": {"width": 1200, "height": 760}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True}


def save(page: Page, name: str):
    """What the window shows, in 256 colours."""
    page.wait_for_timeout(500)  # its transitions end
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shown.quantize(256, dither=Image.Dither.NONE).save(HERE / "gallery" / f"{name}.png", optimize=True)


def open_page(browser: Browser, address: str, **options) -> Page:
    page = browser.new_context(**{**DESK, "locale": "en-US", **options}).new_page()
    page.goto(address)
    return page


def main(address: str):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = open_page(browser, address)
        ask(page, "Locate all shapes.", SAMPLE)
        page.hover(".row >> nth=1")
        save(page, "page")

        page = open_page(browser, address, locale="zh-CN", color_scheme="dark")
        ask(page, "找出所有形状。", SAMPLE)
        save(page, "page_dark_chinese")

        page = open_page(browser, address, **PHONE)
        ask(page, "Locate all shapes.", SAMPLE)
        save(page, "page_phone")

        # The demo was never shown a page: docs/gallery.md says where this answer comes from.
        page = open_page(browser, address)
        scripted(page, (INPUTS / "page.html").read_text(encoding="utf-8"), [((800, 1040), (560, 700))], [])
        ask(page, "Convert this page to QwenVL HTML.", INPUTS / "page.png")
        page.hover(".block table")
        save(page, "page_document")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
