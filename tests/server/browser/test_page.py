"""The page with the demo behind it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import EXAMPLES, ask, start
from PIL import Image
from playwright.sync_api import expect
from pixels import contrast, extent_of, rgb, screenshot

SHAPES = EXAMPLES / "images" / "shapes.png"
LOCATE = "Locate all shapes."
FOCUS = """(() => {
  const node = document.activeElement;
  const name = node.ariaLabel || node.labels?.[0]?.textContent || node.textContent;
  return { id: node.id || node.className, name: name.trim(), outline: getComputedStyle(node).outlineStyle };
})()"""
CSP = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob: data:",
    "media-src 'self' blob: data:",
    "connect-src 'self'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
}


def test_it_loads_under_its_policy(open_page, address):
    page = open_page()
    answer = page.request.get(address)
    assert {rule.strip() for rule in answer.headers["content-security-policy"].split(";")} == CSP
    assert page.locator("h1").inner_text() == "Ask about a picture"
    assert page.locator("#model").input_value() == "demo"
    assert page.evaluate("document.activeElement.id") in ("", "question")


def test_the_policy_stops_what_it_should(open_page):
    page = open_page()
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.com/x.png\" onerror=\"window.hit=1\">')"
    )
    expect(page.locator("img[src*=example]")).to_be_attached()
    page.wait_for_timeout(200)
    assert len(page.evaluate("violations")) == 2
    assert page.evaluate("window.hit") is None
    page.evaluate("violations.length = 0")
    open_page.complaints.clear()


def test_a_dropped_picture_is_asked_about(open_page):
    page = open_page()
    data = list(SHAPES.read_bytes())
    transfer = page.evaluate_handle(
        "data => { const all = new DataTransfer(); all.items.add(new File([new Uint8Array(data)], 'shapes.png', {type: 'image/png'})); return all; }",
        data,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    assert not page.locator("#drop").is_visible()
    assert page.locator("#attached img").count() == 1
    ask(page, "What do you see?")
    assert "blue star" in page.locator(".answer .prose").inner_text()
    assert page.locator(".question .media img").count() == 1


def test_a_pasted_picture_can_be_taken_away(open_page):
    page = open_page()
    page.evaluate(
        """data => {
          const all = new DataTransfer();
          all.items.add(new File([new Uint8Array(data)], 'one.png', {type: 'image/png'}));
          all.items.add(new File(['x'], 'notes.txt', {type: 'text/plain'}));
          document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: all, bubbles: true}));
        }""",
        list(SHAPES.read_bytes()),
    )
    assert page.locator("#attached img").count() == 1
    assert page.locator("#notice").inner_text() == "Neither a picture nor a video: notes.txt"
    page.get_by_role("button", name="Remove one.png").click()
    assert page.locator("#attached img").count() == 0


def test_boxes_arrive_one_by_one_and_lie_on_the_shapes(open_page):
    page = open_page()
    ask(page, LOCATE, SHAPES)
    counts = [shapes for shapes, _ in page.evaluate("seen")]
    assert counts == sorted(counts) and counts[-1] == 4 and {1, 2, 3} & set(counts)
    lengths = [length for _, length in page.evaluate("seen")]
    assert len(set(lengths)) > 2

    picture = np.asarray(Image.open(SHAPES).convert("RGB")).astype(int)
    blue = extent_of(picture, lambda red, green, blue: (blue > red + 90) & (blue > green + 90))
    stage = page.locator(".stage").bounding_box()
    scale = stage["width"] / picture.shape[1]
    assert scale == pytest.approx(stage["height"] / picture.shape[0], rel=0.01)
    shown = screenshot(page)
    left, top, right, bottom = (value * scale for value in blue)
    tint = rgb(page, ".rows [data-entry='1'] .swatch", "background-color")
    assert page.locator(".rows [data-entry='1'] .name").inner_text() == "blue star"
    for x, y in (((left + right) / 2, bottom), (left, (top + bottom) / 2), (right, (top + bottom) / 2)):
        x, y = round(stage["x"] + x), round(stage["y"] + y)
        around = shown[y - 5 : y + 6, x - 5 : x + 6].reshape(-1, 3)
        assert np.abs(around - tint).sum(axis=1).min() < 12
    inside = shown[round(stage["y"] + (top + bottom) / 2), round(stage["x"] + (left + right) / 2)]
    assert inside[2] > inside[0] + 90 and inside[2] > inside[1] + 90


def test_hovering_lights_both_sides(open_page):
    page = open_page()
    ask(page, LOCATE, SHAPES)
    page.mouse.move(0, 0)
    assert page.locator(".lit").count() == 0
    page.hover(".rows [data-entry='1'] button")
    assert page.locator(".stage g.lit").get_attribute("data-entry") == "1"
    stage = page.locator(".stage").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] * 150 / 252, stage["y"] + stage["height"] * 80 / 196)
    assert page.locator(".rows .lit .name").inner_text() == "blue star"
    page.focus(".rows [data-entry='2'] button")
    assert page.locator(".stage g.lit").get_attribute("data-entry") == "2"


def test_what_is_found_can_be_saved(open_page, tmp_path):
    page = open_page()
    ask(page, LOCATE, SHAPES)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Download as JSON").click()
    assert saving.value.suggested_filename == "shapes.json"
    items = json.loads(saving.value.path().read_text())
    assert [item["label"] for item in items] == ["green star", "blue star", "green circle", "green star"]
    assert all(0 <= x <= size for item in items for x, size in zip(item["coords"], (252, 196) * 2, strict=True))
    page.click(".rows [data-entry='1'] button")
    assert page.locator(".count").inner_text() == "1 of 4 chosen"
    with page.expect_download() as saving:
        page.get_by_role("button", name="Download as JSON").click()
    assert json.loads(saving.value.path().read_text()) == [items[1]]
    with page.expect_download() as saving:
        page.get_by_role("button", name="Download as PNG").click()
    drawn = Image.open(saving.value.path())
    left, _, _, bottom = items[1]["coords"]
    scale = drawn.width // 252
    assert drawn.size == (252 * scale, 196 * scale)
    tint = rgb(page, ".rows [data-entry='1'] .swatch", "background-color")
    assert (
        np.abs(
            np.subtract(drawn.convert("RGB").getpixel((round(left * scale), round(bottom * scale) - 20)), tint)
        ).max()
        < 40
    )


def test_a_second_turn_remembers_the_first(open_page):
    page = open_page()
    ask(page, LOCATE, SHAPES)
    ask(page, "How many green stars are there?")
    assert page.locator(".answer").count() == 2
    assert page.locator(".answer:last-child .prose").inner_text() == "2"
    ask(page, "Locate the blue star.", EXAMPLES / "qwen2_5_vl" / "inputs" / "turned.jpg")
    figure = page.locator(".answer:last-child .figure")
    assert figure.locator("img").get_attribute("alt") == "turned.jpg"
    # In the pixels of the picture as it is shown, which its EXIF data turn.
    assert figure.locator(".stage svg").get_attribute("viewBox") == "0 0 1120 840"
    assert figure.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1120, 840]


def test_several_pictures_in_a_turn(open_page):
    page = open_page()
    inputs = EXAMPLES / "qwen2_5_vl" / "inputs"
    ask(page, "Which image has more stars?", inputs / "one.png", inputs / "two.png")
    assert page.locator(".question .media img").count() == 2
    assert "image" in page.locator(".answer .prose").inner_text()


def endless(page):
    """Has the server write on after the end of each answer."""

    def more(route):
        body = {**route.request.post_data_json, "ignore_eos": True, "max_tokens": 8000}
        route.continue_(post_data=json.dumps(body))

    page.route("**/v1/chat/completions", more)


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_an_answer_can_be_stopped_and_asked_for_again(open_page, way):
    page = open_page()
    endless(page)
    start(page, "What do you see?", SHAPES)
    expect(page.locator(".answer .prose")).to_have_text(re.compile(r"[\s\S]{40}"))
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    page.wait_for_selector(".answer:not(.running)")
    stopped = page.locator(".answer .prose").inner_text()
    assert "Stopped" in page.locator(".facts").inner_text()
    page.wait_for_timeout(300)
    assert page.locator(".answer .prose").inner_text() == stopped
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".answer .facts")).not_to_contain_text("Stopped")
    expect(page.locator(".answer")).to_have_count(1)
    assert len(page.locator(".answer .prose").inner_text()) < len(stopped)


def test_conversations_are_kept_with_their_pictures(open_page, address):
    page = open_page()
    ask(page, LOCATE, SHAPES)
    page.reload()
    page.click("#history .open")
    assert page.locator(".stage g").count() == 4
    assert page.evaluate("document.querySelector('.stage img').naturalWidth") == 252
    ask(page, "How many green stars are there?")
    page.get_by_role("button", name="Delete this conversation").click()
    page.wait_for_selector("#welcome:visible")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#history li").count() == 0


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


@pytest.mark.parametrize("kind", ["Python", "curl"])
def test_the_code_of_a_request_runs(open_page, tmp_path, kind):
    page = open_page()
    name = "it's $HOME `x`.png"
    (tmp_path / name).write_bytes(SHAPES.read_bytes())
    ask(page, 'Say "$HOME" \\ `pwd` and 中文', tmp_path / name)
    ask(page, "How many green stars are there?")
    page.locator(".answer:last-child footer button[title='This request as code']").click()
    page.get_by_role("tab", name=kind).click()
    code = page.locator("#code-text").inner_text()
    command = [sys.executable, "-c", code] if kind == "Python" else ["sh", "-c", code]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    answer = said.stdout if kind == "curl" else said.stdout.splitlines()[0]
    wanted = page.locator(".answer:last-child .prose").inner_text()
    assert (json.loads(answer)["choices"][0]["message"]["content"] if kind == "curl" else answer) == wanted


def test_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.locator("#photograph").is_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    ask(page, LOCATE, SHAPES)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    stage, rows = page.locator(".stage").bounding_box(), page.locator(".rows").bounding_box()
    assert stage["width"] > 350 and rows["y"] >= stage["y"] + stage["height"]
    assert not page.locator("#sidebar").is_visible()
    page.tap("#menu")
    page.wait_for_selector("#sidebar:visible")
    page.get_by_role("button", name="New chat").tap()
    page.wait_for_selector("#welcome:visible")
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && Math.min(b.offsetWidth, b.offsetHeight) < 24).map(b => b.outerHTML)"
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ground = rgb(page, "body", "background-color")
    assert (sum(ground) < 150) == (scheme == "dark")
    for selector in ("h1", "#welcome p", "#suggestions button", "#sidebar .worded", "#sidebar .faint", ".hint"):
        assert contrast(rgb(page, selector, "color"), ground) >= 4.5, selector
    page.click("#switch-theme")
    assert (sum(rgb(page, "body", "background-color")) < 150) == (scheme == "light")
    page.reload()
    assert (sum(rgb(page, "body", "background-color")) < 150) == (scheme == "light")


def test_chinese(open_page):
    page = open_page(locale="zh-CN")
    assert page.locator("h1").inner_text() == "看图提问"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    ask(page, "找出所有形状。", SHAPES)
    assert page.locator(".count").inner_text() == "4 项"
    page.click("#switch-language")
    assert page.locator(".count").inner_text() == "4 items"
    page.reload()
    assert page.locator("h1").inner_text() == "Ask about a picture"


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
