"""What people do on the page."""

import json
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
SHAPES = EXAMPLES / "images" / "shapes.png"
INPUTS = EXAMPLES / "qwen2_5_vl" / "inputs"


def ask(page, question: str, *files: Path):
    """Asks, and waits for the whole answer."""
    start(page, question, *files)
    page.wait_for_selector(".answer:last-child:not(.running)")


def start(page, question: str, *files: Path):
    """Asks, and waits until the answer has begun."""
    answers = page.locator(".answer").count()
    if files:
        page.set_input_files("#files", list(files))
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(f".answer >> nth={answers}")


def scripted(page, text: str, pictures=(), grounding=None):
    """Has the page's requests answered with `text`, in pieces of three characters; returns the bodies that it sends."""
    bodies = []

    def answer(route):
        bodies.append(route.request.post_data_json)
        shown = [{"size": [*size], "grid": [*grid]} for size, grid in pictures]
        deltas = [{"role": "assistant", "content": "", "pictures": shown}]
        deltas += [{"content": text[i : i + 3]} for i in range(0, len(text), 3)]
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        last = {} if grounding is None else {"grounding": grounding}
        choices.append({"index": 0, "delta": last, "finish_reason": "stop"})
        lines = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
        route.fulfill(content_type="text/event-stream", body="".join([*lines, "data: [DONE]\n\n"]))

    page.route("**/v1/chat/completions", answer)
    return bodies
