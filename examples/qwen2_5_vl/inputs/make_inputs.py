"""Draws the pictures, the video and the answers in this folder.

PYTHONPATH=../../.. python make_inputs.py

The answers (page.html, screen.txt, film.txt, shapes_zh.txt) are no model's: they are written from where things were drawn, in the
form that Qwen2.5-VL gives such answers and in the pixels of the resized picture, for what the shipped demo cannot do.
"""

import json
import sys
from pathlib import Path
from random import Random

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddlemix_qwenvl.media import preprocess_images, process_vision_info

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "demo"))
import scenes  # noqa: E402

MAX_PIXELS = 512 * 28 * 28  # of a page and of the large picture, as the model sees it
SCREEN_PIXELS = 144 * 28 * 28  # of a screen: the prompt with the tool is long, and demo's context short
INK, PAPER, GREY, BLUE = (30, 34, 40), (253, 252, 249), (150, 155, 162), (52, 96, 180)


class Page:
    """A picture to write on that remembers where each thing was put."""

    def __init__(self, size: tuple[int, int], paper=PAPER):
        self.image = Image.new("RGB", size, paper)
        self.pen = ImageDraw.Draw(self.image)
        self.boxes: dict[str, tuple[int, int, int, int]] = {}

    def write(self, name: str, at: tuple[int, int], text: str, size: int, ink=INK) -> None:
        self.pen.multiline_text(at, text, ink, ImageFont.load_default(size), spacing=size // 3)
        left, top, right, bottom = self.pen.multiline_textbbox(
            at, text, ImageFont.load_default(size), spacing=size // 3
        )
        self.boxes[name] = (int(left) - 4, int(top) - 4, int(right) + 4, int(bottom) + 4)

    def button(self, name: str, box: tuple[int, int, int, int], text: str, fill, ink) -> None:
        self.pen.rounded_rectangle(box, 10, fill)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        self.pen.text(middle, text, ink, ImageFont.load_default(24), anchor="mm")
        self.boxes[name] = box

    def seen(self, max_pixels: int) -> dict[str, list[int]]:
        """The boxes in the pixels of the picture as the model sees it."""
        return to_resized(self.image, self.boxes, max_pixels)


def to_resized(image: Image.Image, boxes: dict, max_pixels: int) -> dict[str, list[int]]:
    shown, _ = process_vision_info([{"role": "user", "content": [{"type": "image", "image": image}]}])
    ((width, height),) = preprocess_images(shown, max_pixels=max_pixels)["resized_sizes"]
    scale = (width / image.width, height / image.height) * 2
    return {name: [round(c * s) for c, s in zip(box, scale, strict=True)] for name, box in boxes.items()}


PLANETS = (("Planet", "Moons", "Day, hours"), ("Earth", "1", "23.9"), ("Mars", "2", "24.6"), ("Jupiter", "95", "9.9"))
TEXT = (
    "Every planet turns, and none of them at the pace of another.\n"
    "The table gives the length of a day and the number of moons."
)


def page() -> None:
    """A page with a heading, a paragraph, a table, a formula, a list and a picture."""
    page = Page((800, 1040))
    page.write("title", (70, 60), "How long is a day?", 44)
    page.write("text", (70, 150), TEXT, 23)
    left, top, width, height = 70, 250, 220, 54
    page.boxes["table"] = (left, top, left + 3 * width, top + len(PLANETS) * height)
    for row, cells in enumerate(PLANETS):
        for column, text in enumerate(cells):
            box = (left + column * width, top + row * height, left + (column + 1) * width, top + (row + 1) * height)
            page.pen.rectangle(box, (228, 232, 240) if row == 0 else PAPER, GREY, 2)
            page.pen.text((box[0] + 16, box[1] + 14), text, INK, ImageFont.load_default(23))
    page.write("formula", (270, 520), "v  =  c / T", 34)
    page.write("one", (100, 620), "-  c is the way around the planet", 23)
    page.write("two", (100, 664), "-  T is the length of a day", 23)
    sky = page.boxes["image"] = (70, 730, 730, 960)
    page.pen.rectangle(sky, (18, 22, 48))
    for x, radius, colour in ((170, 34, (96, 150, 220)), (330, 24, (204, 92, 60)), (570, 80, (214, 178, 132))):
        page.pen.ellipse((x - radius, 845 - radius, x + radius, 845 + radius), colour)
    page.write("caption", (70, 975), "Earth, Mars and Jupiter, not to scale", 20, GREY)
    page.image.save(HERE / "page.png", optimize=True)
    box = {name: f'data-bbox="{" ".join(map(str, values))}"' for name, values in page.seen(MAX_PIXELS).items()}
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in PLANETS)
    (HERE / "page.html").write_text(
        f"""```html
<html><body>
<h1 {box["title"]}>How long is a day?</h1>
 <p {box["text"]}>{TEXT.replace(chr(10), " ")}</p>
 <table {box["table"]}>{rows}</table>
 <div class="formula" {box["formula"]}>$$v = \\frac{{c}}{{T}}$$</div>
 <ul><li {box["one"]}>c is the way around the planet</li><li {box["two"]}>T is the length of a day</li></ul>
 <div class="image" {box["image"]}><img {box["image"]} alt="three planets"/></div>
 <p {box["caption"]}>Earth, Mars and Jupiter, not to scale</p>
</body></html>
```
""",
        encoding="utf-8",
    )


def screen() -> None:
    """A phone with a message that asks for a reply."""
    screen = Page((540, 1110), (240, 242, 246))
    screen.pen.rectangle((0, 0, 540, 96), BLUE)
    screen.write("title", (36, 32), "Messages", 34, "white")
    screen.pen.rounded_rectangle((30, 140, 430, 330), 18, "white")
    screen.write("message", (54, 164), "Ada\n\nShall we meet at noon?\nThe park is fine for me.", 24)
    screen.button("yes", (30, 370, 260, 440), "Yes, noon", (46, 140, 88), "white")
    screen.button("no", (280, 370, 510, 440), "Another time", (214, 220, 228), INK)
    screen.pen.rounded_rectangle((30, 980, 400, 1060), 18, "white", GREY, 2)
    screen.write("field", (54, 1002), "Write a reply", 24, GREY)
    screen.button("send", (420, 980, 510, 1060), "Send", BLUE, "white")
    screen.image.save(HERE / "screen.png", optimize=True)
    x1, y1, x2, y2 = screen.seen(SCREEN_PIXELS)["yes"]
    call = {"name": "mobile_use", "arguments": {"action": "click", "coordinate": [(x1 + x2) // 2, (y1 + y2) // 2]}}
    (HERE / "screen.txt").write_text(f"<tool_call>\n{json.dumps(call)}\n</tool_call>\n", encoding="utf-8")


def shapes() -> None:
    """Two small pictures to compare, and a large one that the camera held sideways: EXIF says that it is to be turned."""
    for name, seed, count in (("one.png", 26, 3), ("two.png", 20, 3)):
        scenes.draw_scene(Random(seed), (224, 168), count).image.save(HERE / name, optimize=True)
    scene = scenes.draw_scene(Random(23), (280, 210), 3)
    large = scene.image.resize((1120, 840), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274] = 6  # orientation: turn by 90 degrees clockwise to see it upright
    large.transpose(Image.Transpose.ROTATE_90).save(HERE / "turned.jpg", quality=88, exif=exif)
    seen = to_resized(large, {shape: [4 * c for c in shape.box] for shape in scene.shapes}, MAX_PIXELS)
    found = [
        {"bbox_2d": box, "label": scenes.CHINESE[shape.color] + "的" + scenes.CHINESE[shape.kind]}
        for shape, box in seen.items()
    ]
    lines = ",\n".join(f"\t{json.dumps(one, ensure_ascii=False)}" for one in found)
    (HERE / "shapes_zh.txt").write_text(f"```json\n[\n{lines}\n]\n```\n", encoding="utf-8")


FILM = ((0, 4, "circle", "red"), (4, 7, "square", "blue"), (7, 12, "star", "yellow"))


def film(rate: int = 10) -> None:
    """Twelve seconds of one shape after the other, drifting over a grey ground."""
    with av.open(str(HERE / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "30", "preset": "veryslow"})
        stream.width, stream.height, stream.pix_fmt = 224, 168, "yuv420p"
        for number in range(rate * FILM[-1][1]):
            start, end, kind, color = next(part for part in FILM if number < part[1] * rate)
            place = (number - start * rate) / ((end - start) * rate)
            left, top = round(20 + 110 * place), round(60 - 30 * place)
            image = Image.new("RGB", (224, 168), (110, 110, 110))
            scenes.paint(Random(0), image, scenes.Shape(kind, color, (left, top, left + 72, top + 72)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode())
    clock = "00:{:02d}.00".format
    found = [
        {"start_time": clock(start), "end_time": clock(end), "description": f"A {color} {kind} drifts upwards."}
        for start, end, kind, color in FILM
    ]
    lines = ",\n".join(f"\t{json.dumps(one)}" for one in found)
    (HERE / "film.txt").write_text(f"```json\n[\n{lines}\n]\n```\n", encoding="utf-8")


if __name__ == "__main__":
    page()
    screen()
    shapes()
    film()
