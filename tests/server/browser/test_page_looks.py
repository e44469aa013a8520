"""The page on a phone, in the dark, in Chinese, by keyboard, and with settings; the demo is behind it."""

import pytest
from page_driver import SHAPES, ask
from page_pixels import contrast, rgb

LOCATE = "Locate all shapes."
SMALL = """[...document.querySelectorAll("button")]
  .filter((one) => one.offsetParent && Math.min(one.offsetWidth, one.offsetHeight) < 24)
  .map((one) => one.outerHTML)"""
FOCUS = """(() => {
  const node = document.activeElement;
  const name = node.ariaLabel || node.labels?.[0]?.textContent || node.textContent;
  return { id: node.id || node.className, name: name.trim(), outline: getComputedStyle(node).outlineStyle };
})()"""


def test_settings_reach_the_server_and_the_key_stays_in_the_tab(open_page):
    page = open_page()
    page.click("#open-settings")
    values = {"system": "Be brief.", "temperature": "0", "top_p": "0.9", "max_tokens": "5", "seed": "7"}
    values |= {"min_pixels": "3136", "max_pixels": "50176", "api_key": "secret"}
    for name, value in values.items():
        page.fill(f"[name={name}]", value)
    page.fill("[name=temperature]", "9")  # is none, and the last that was one counts
    page.keyboard.press("Escape")
    with page.expect_request("**/v1/chat/completions") as asking:
        ask(page, "What do you see?", SHAPES)
    body = asking.value.post_data_json
    assert asking.value.headers["authorization"] == "Bearer secret"
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["mm_processor_kwargs"] == {"min_pixels": 3136, "max_pixels": 50176}
    wanted = {"temperature": 0, "top_p": 0.9, "max_tokens": 5, "seed": 7, "grounding": True, "stream": True}
    assert {name: body[name] for name in wanted} == wanted
    assert "Ended at the limit of tokens" in page.locator(".facts").inner_text()
    assert "secret" not in page.evaluate("JSON.stringify(localStorage)")
    assert "secret" in page.evaluate("JSON.stringify(sessionStorage)")
    page.reload()
    assert page.input_value("[name=seed]") == "7"


def test_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.locator("#photograph").is_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    ask(page, LOCATE, SHAPES)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    stage, rows = page.locator(".stage").bounding_box(), page.locator(".rows").bounding_box()
    assert stage["width"] > 350 and rows["y"] >= stage["y"] + stage["height"]
    assert stage["y"] >= page.locator("#scroller").bounding_box()["y"]  # still in view at the end of the answer
    assert not page.locator("#sidebar").is_visible()
    page.tap("#menu")
    page.wait_for_selector("#sidebar:visible")
    page.get_by_role("button", name="New chat").tap()
    page.wait_for_selector("#welcome:visible")
    small = page.evaluate(SMALL)
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ground = rgb(page, "body", "background-color")
    assert (sum(ground) < 150) == (scheme == "dark")
    for selector in (
        "#welcome h2",
        "#welcome p",
        "#suggestions button",
        "#sidebar .worded",
        "#sidebar .faint",
        ".hint",
    ):
        assert contrast(rgb(page, selector, "color"), ground) >= 4.5, selector
    page.click("#switch-theme")
    assert (sum(rgb(page, "body", "background-color")) < 150) == (scheme == "light")
    page.reload()
    assert (sum(rgb(page, "body", "background-color")) < 150) == (scheme == "light")


def test_chinese(open_page):
    page = open_page(locale="zh-CN")
    assert page.locator("#welcome h2").inner_text() == "看图提问"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    ask(page, "找出所有形状。", SHAPES)
    assert page.locator(".count").inner_text() == "4 项"
    page.click("#switch-language")
    assert page.locator(".count").inner_text() == "4 items"
    page.reload()
    assert page.locator("#welcome h2").inner_text() == "Ask about a picture"


def test_the_keyboard_alone(open_page):
    page = open_page()
    page.focus("#question")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question") == "one\ntwo"
    page.fill("#question", "")
    page.keyboard.press("Enter")
    assert page.locator(".answer").count() == 0
    ask(page, LOCATE, SHAPES)
    assert "green star" in page.locator("#said").inner_text()
    reached = []
    while not reached or reached[-1]["id"] != "question":
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUS))
        assert len(reached) < 60
        assert reached[-1]["name"] and (reached[-1]["outline"] != "none" or reached[-1]["id"] in ("", "question")), (
            reached
        )
    assert {"new-chat", "model", "open-settings", "row", "question"} <= {one["id"] for one in reached}
