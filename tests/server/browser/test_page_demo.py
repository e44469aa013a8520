"""The page with the demo behind it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from page_driver import INPUTS, SHAPES, ask, start
from page_pixels import extent_of, rgb, screenshot
from PIL import Image
from playwright.sync_api import expect
from served import wait_until

LOCATE = "Locate all shapes."
TRANSFER = """data => {
  const all = new DataTransfer();
  all.items.add(new File([new Uint8Array(data)], "shapes.png", { type: "image/png" }));
  return all;
}"""
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
    assert page.locator("#welcome h2").inner_text() == "Ask about a picture"
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
    transfer = page.evaluate_handle(TRANSFER, list(SHAPES.read_bytes()))
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
    page.hover(".tag[data-entry='3']")
    assert page.locator(".stage g.lit").get_attribute("data-entry") == "3"
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
    ask(page, "Locate the blue star.", INPUTS / "turned.jpg")
    figure = page.locator(".answer:last-child .figure")
    assert figure.locator("img").get_attribute("alt") == "turned.jpg"
    # In the pixels of the picture as it is shown, which its EXIF data turn.
    assert figure.locator(".stage svg").get_attribute("viewBox") == "0 0 1120 840"
    assert figure.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1120, 840]


def test_several_pictures_in_a_turn(open_page):
    page = open_page()
    ask(page, "Which image has more stars?", INPUTS / "one.png", INPUTS / "two.png")
    assert page.locator(".question .media img").count() == 2
    assert "image" in page.locator(".answer .prose").inner_text()


def endless(page):
    """Has the server write on after the end of each answer."""

    def more(route):
        body = {**route.request.post_data_json, "ignore_eos": True, "max_tokens": 8000}
        route.continue_(post_data=json.dumps(body))

    page.route("**/v1/chat/completions", more)


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_an_answer_can_be_stopped_and_asked_for_again(open_page, server, way):
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
    wait_until(server.is_idle)
    assert page.locator(".answer .prose").inner_text() == stopped
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".answer .facts")).not_to_contain_text("Stopped")
    expect(page.locator(".answer")).to_have_count(1)
    assert len(page.locator(".answer .prose").inner_text()) < len(stopped)


def test_a_conversation_can_be_deleted_while_it_is_answered(open_page):
    page = open_page()
    endless(page)
    start(page, "What do you see?", SHAPES)
    page.get_by_role("button", name="Delete this conversation").click()
    page.wait_for_selector("#welcome:visible")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#history li").count() == 0


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
