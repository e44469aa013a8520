"""Seeded scenes and the conversations about them: what the demo checkpoint is trained and tested on.

A scene is a picture of coloured shapes, and sometimes a printed word or number, on a varied background. For each task
there is a question in one of several wordings and an answer in the format of the real models.
"""

import itertools
import json
import math
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TASKS = ("describe", "count", "locate", "read", "compare")
COLORS = {
    "red": (215, 35, 35),
    "orange": (250, 140, 20),
    "yellow": (245, 225, 40),
    "green": (40, 165, 60),
    "blue": (40, 80, 220),
    "purple": (145, 50, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
WORDS = [
    "OPEN",
    "STOP",
    "EXIT",
    "CAFE",
    "TAXI",
    "HOTEL",
    "BANK",
    "PARK",
    "SALE",
    "FREE",
    "MENU",
    "SHOP",
    "BOOK",
    "CITY",
    "ZOO",
    "BUS",
    "TEA",
    "MILK",
    "FISH",
    "RICE",
    "SALT",
    "GOLD",
    "MOON",
    "SUN",
    "LOVE",
    "HOME",
    "GAME",
    "YES",
]
SIDES = (112, 336)  # of a picture, in pixels
PAIR_SIDES = (112, 224)  # of each of two pictures in one prompt
MAX_SHAPES = 3

NUMBER_WORDS = ("no", "a", "two", "three", "four", "five")
CHINESE = {
    **{"red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色", "purple": "紫色"},
    **{"circle": "圆形", "square": "方形", "triangle": "三角形", "star": "星形", "cross": "十字"},
}
QUESTIONS = {
    "describe": (
        "Describe this image.",
        "Describe the picture.",
        "What is in this image?",
        "What is in the picture?",
        "What do you see?",
        "What can you see in this picture?",
        "What does the image show?",
        "Which shapes are in the image?",
        "描述这张图片。",
        "图中有什么？",
    ),
    "count": (
        "How many {many} are there?",
        "How many {many} are in the image?",
        "How many {many} do you see?",
        "How many {many} can you see in the picture?",
        "Count the {many}.",
        "Count the {many} in this image.",
        "What is the number of {many}?",
        "图中有几个{chinese}？",
    ),
    "locate": (
        "Locate the {one}.",
        "Locate the {one} in the image, output its bbox coordinates using JSON format.",
        "Where is the {one}?",
        "Find the {one}.",
        "Find the {one} in the picture.",
        "Detect the {one} and output the bounding box in JSON.",
        "Give the bounding box of the {one}.",
        "找出{chinese}。",
    ),
    "locate all": (
        "Locate all {many}.",
        "Locate every {one} in the image.",
        "Locate all {many} in the image, output their bbox coordinates using JSON format.",
        "Where are the {many}?",
        "Find all {many} in the picture.",
        "Detect all {many} and output the bounding boxes in JSON.",
        "找出所有{chinese}。",
    ),
    "read": (
        "Read the text.",
        "Read the text in the image.",
        "What does the sign say?",
        "What is written in the picture?",
        "What text is in the image?",
        "Which word or number do you see?",
        "图中写着什么？",
    ),
    "compare": (
        "Which image has more {many}?",
        "Which picture has more {many}?",
        "Compare the two images: which has more {many}?",
        "Are there more {many} in the first or the second image?",
        "Where do you see more {many}, in the first or the second picture?",
        "哪张图片有更多{chinese}？",
    ),
}


@dataclass(frozen=True)
class Shape:
    """One shape; `box` is (x1, y1, x2, y2) in pixels of the picture it was drawn on."""

    kind: str
    color: str
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """A picture, the shapes in it, and the text printed on it (or None) with the box of each letter."""

    image: Image.Image
    shapes: list[Shape]
    text: str | None = None
    letters: list[tuple[str, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """What a question asks about: shapes of one colour, of one kind, of both, or (None, None) all of them."""

    color: str | None = None
    kind: str | None = None
    one: str = field(init=False)
    many: str = field(init=False)
    chinese: str = field(init=False)

    def __post_init__(self):
        noun = self.kind or "shape"
        prefix = f"{self.color} " if self.color else ""
        chinese = (CHINESE[self.color] + "的" if self.color else "") + CHINESE.get(noun, noun if self.kind else "形状")
        object.__setattr__(self, "one", prefix + noun)
        object.__setattr__(self, "many", prefix + plural(noun))
        object.__setattr__(self, "chinese", chinese)

    def among(self, shapes: list[Shape]) -> list[Shape]:
        return [s for s in shapes if self.color in (None, s.color) and self.kind in (None, s.kind)]


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def resized(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height after the processor's resize (sides become multiples of 28; the demo's sizes need no shrinking)."""
    return tuple(28 * round(side / 28) for side in size)


def background(rng: Random, size: tuple[int, int]) -> Image.Image:
    """A muted colour field: plain, a gradient, soft blobs, stripes or checks, with a little noise."""
    noise = np.random.default_rng(rng.getrandbits(32))
    level = rng.uniform(25, 235)
    tint = noise.uniform(-14, 14, 3)
    cells = rng.choice([(1, 1), (2, 1), (1, 2), (2, 2), (3, 3), (5, 5)])
    field = level + tint + noise.uniform(-1, 1, (*cells, 1)) * rng.uniform(0, 35) + noise.uniform(-6, 6, (*cells, 3))
    smooth = rng.choice([Image.Resampling.BICUBIC, Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
    image = Image.fromarray(np.clip(field, 5, 250).astype(np.uint8)).resize(size, smooth)
    if rng.random() < 0.4:
        grain = noise.standard_normal((size[1], size[0], 1), np.float32) * rng.uniform(1, 7)
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return image


def outline(kind: str) -> list[tuple[float, float]]:
    """Corners of a shape in the unit square, touching all four of its sides."""
    if kind == "square":
        return [(0, 0), (1, 0), (1, 1), (0, 1)]
    if kind == "triangle":
        return [(0.5, 0), (1, 1), (0, 1)]
    if kind == "cross":
        a, b = 1 / 3, 2 / 3
        return [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
    if kind == "heart":
        angles = [2 * math.pi * i / 40 for i in range(40)]
        points = [
            (16 * math.sin(a) ** 3, -13 * math.cos(a) + 5 * math.cos(2 * a) + 2 * math.cos(3 * a) + math.cos(4 * a))
            for a in angles
        ]
    else:  # a star of five points
        points = []
        for i in range(10):
            radius, angle = (1 if i % 2 == 0 else 0.42), math.pi * i / 5
            points.append((radius * math.sin(angle), -radius * math.cos(angle)))
    xs, ys = zip(*points, strict=True)
    return [((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys))) for x, y in points]


def paint(rng: Random, image: Image.Image, shape: Shape) -> None:
    """Draw a shape, antialiased, filling its box, in a slightly varied colour."""
    x1, y1, x2, _ = shape.box
    fine = 4 * (x2 - x1) - 1
    mask = Image.new("L", (fine + 1, fine + 1))
    draw = ImageDraw.Draw(mask)
    if shape.kind == "circle":
        draw.ellipse((0, 0, fine, fine), fill=255)
    else:
        draw.polygon([(x * fine, y * fine) for x, y in outline(shape.kind)], fill=255)
    color = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in COLORS[shape.color])
    image.paste(color, (x1, y1), mask.reduce(4))


def print_text(rng: Random, image: Image.Image, text: str) -> tuple[tuple[int, int, int, int], list]:
    """Print text somewhere, on a plate or straight on the background; returns the area taken, and letters with boxes."""
    width, height = image.size
    largest = max(26, min(56, int(width / (0.75 * max(3, len(text))))))
    font = ImageFont.load_default(rng.randint(26, largest))
    left, top, right, bottom = font.getbbox(text)
    margin = rng.randint(5, 9)
    w, h = int(right - left) + 2 * margin, int(bottom - top) + 2 * margin
    x, y = rng.randint(0, max(0, width - w)), rng.randint(0, max(0, height - h))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.6:
        plate = tuple(rng.randint(0, 255) for _ in range(3))
        draw.rounded_rectangle((x, y, x + w - 1, y + h - 1), radius=rng.randint(0, 8), fill=plate)
    brightness = np.asarray(image.convert("L").crop((x, y, x + w, y + h))).mean()
    ink = rng.randint(0, 30) if brightness > 127 else rng.randint(225, 255)
    draw.text((x + margin - left, y + margin - top), text, fill=(ink, ink, ink), font=font)
    edges = [x + margin - left + font.getlength(text[:end]) for end in range(len(text) + 1)]
    boxes = [np.array([a, y + margin, b, y + h - margin]) for a, b in itertools.pairwise(edges)]
    return (x, y, x + w, y + h), list(zip(text, boxes, strict=True))


def place(
    rng: Random, size: tuple[int, int], largest: int, taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A free square of a side up to `largest` for one more shape, or None when none was found."""
    width, height = size
    for _ in range(30):
        side = rng.randint(min(30, largest), largest)
        x, y = rng.randint(0, width - side), rng.randint(0, height - side)
        box = (x, y, x + side, y + side)
        if all(box[0] >= b[2] + 4 or box[2] + 4 <= b[0] or box[1] >= b[3] + 4 or box[3] + 4 <= b[1] for b in taken):
            return box
    return None


def draw_scene(
    rng: Random,
    size: tuple[int, int],
    shapes: int,
    text: str | None = None,
    kinds: tuple[str, ...] = SHAPES,
) -> Scene:
    """Draw a scene of at most `shapes` shapes (fewer where no room is left); few colours and kinds, so that some repeat."""
    image = background(rng, size)
    area, letters = print_text(rng, image, text) if text else (None, [])
    taken = [area] if text else []
    palette = rng.sample(list(COLORS), rng.choice([1, 2, 3, 6]))
    forms = rng.sample(kinds, min(len(kinds), rng.choice([1, 2, 3, 5])))
    largest = min(96, int((0.85 if shapes == 1 else 0.45) * min(size)))
    drawn = []
    for _ in range(shapes):
        box = place(rng, size, largest, taken)
        if box is None:
            break
        shape = Shape(rng.choice(forms), rng.choice(palette), box)
        paint(rng, image, shape)
        drawn.append(shape)
        taken.append(box)
    return Scene(image, drawn, text, letters)


def random_text(rng: Random, width: int) -> str:
    """A word or number that can be printed in `width` pixels."""
    words = [word for word in WORDS if 20 * len(word) <= width]
    return rng.choice(words) if words and rng.random() < 0.5 else str(rng.randint(1, 99))


def random_scene(
    rng: Random,
    task: str,
    size: tuple[int, int],
    max_shapes: int = MAX_SHAPES,
    kinds: tuple[str, ...] = SHAPES,
) -> Scene:
    """A scene that the task can be asked about."""
    if task == "read":
        return draw_scene(rng, size, rng.randint(0, 2), random_text(rng, size[0]), kinds)
    return draw_scene(rng, size, rng.randint(1, max_shapes), None, kinds)


def describe(shapes: list[Shape]) -> str:
    """ "a red circle and two blue squares": groups in the order of COLORS, then of kinds by name."""
    order = list(COLORS)
    groups = sorted({(order.index(s.color), s.kind) for s in shapes})
    phrases = []
    for color_index, kind in groups:
        color = order[color_index]
        count = sum(s.color == color and s.kind == kind for s in shapes)
        article = "an" if count == 1 and color[0] in "aeiou" else NUMBER_WORDS[count]
        phrases.append(f"{article} {color} {kind if count == 1 else plural(kind)}")
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


def boxes_json(scene: Scene, shapes: list[Shape]) -> str:
    """The real models' answer: boxes in the resized picture's pixels, from left to right."""
    (width, height), (new_width, new_height) = scene.image.size, resized(scene.image.size)
    scale = (new_width / width, new_height / height) * 2
    lines = []
    for shape in sorted(shapes, key=lambda s: s.box):
        box = [round(c * s) for c, s in zip(shape.box, scale, strict=True)]
        lines.append(f'\t{{"bbox_2d": {json.dumps(box)}, "label": "{shape.name}"}}')
    return "```json\n[\n" + ",\n".join(lines) + "\n]\n```"


def random_target(rng: Random, shapes: list[Shape], present: bool) -> Target:
    """Something to ask about; `present` asks for what is surely there, otherwise it may be absent."""
    if not present and rng.random() < 0.15:
        color, kind = rng.choice(list(COLORS)), rng.choice(SHAPES)
    else:
        shape = rng.choice(shapes)
        color, kind = shape.color, shape.kind
    return rng.choice([Target(color, kind), Target(color, kind), Target(color), Target(None, kind), Target(), Target()])


def exchange(rng: Random, task: str, scenes: list[Scene]) -> tuple[str, str]:
    """A question and its answer. All tasks look at one scene, "compare" at two."""
    target, wordings, shapes = Target(), task, scenes[0].shapes
    if task == "describe":
        answer = describe(shapes)
    elif task == "read":
        answer = scenes[0].text
    elif task == "count":
        target = random_target(rng, shapes, present=False)
        answer = str(len(target.among(shapes)))
    elif task == "locate":
        target = random_target(rng, shapes, present=True)
        found = target.among(shapes)
        wordings = "locate" if len(found) == 1 else "locate all"
        answer = boxes_json(scenes[0], found)
    else:
        target = random_target(rng, shapes + scenes[1].shapes, present=False)
        first, second = (len(target.among(scene.shapes)) for scene in scenes)
        verdict = "neither" if first == second else "the first image" if first > second else "the second image"
        answer = f"{first} and {second}, so {verdict}."
    question = rng.choice(QUESTIONS[wordings]).format(one=target.one, many=target.many, chinese=target.chinese)
    return question, answer


def messages(scenes: list[Scene], exchanges: list[tuple[str, str]]) -> list[dict]:
    """The conversation as the processors take it: pictures come before the first question."""
    pictures = [{"type": "image", "image": scene.image} for scene in scenes]
    turns = []
    for question, answer in exchanges:
        turns.append({"role": "user", "content": [*pictures, {"type": "text", "text": question}]})
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        pictures = []
    return turns


def random_size(rng: Random, sides: tuple[int, int] = SIDES, area: float = math.inf) -> tuple[int, int]:
    """Width and height between `sides`, their logarithms uniform: any aspect, and doubling a side is as likely anywhere.

    Drawn again while the picture is larger than `area`.
    """
    low, high = (math.log(side) for side in sides)
    while True:
        size = tuple(round(math.exp(rng.uniform(low, high))) for _ in range(2))
        if size[0] * size[1] <= area:
            return size


def example(task: str, seed: int | str, kinds: tuple[str, ...] = SHAPES) -> tuple[list[Scene], str, str]:
    """One held-out example: scenes, question, answer. The same seed always gives the same example."""
    rng = Random(f"{task} {seed}")
    size = random_size(rng, PAIR_SIDES if task == "compare" else SIDES)
    scenes = [random_scene(rng, task, size, kinds=kinds) for _ in range(2 if task == "compare" else 1)]
    return scenes, *exchange(rng, task, scenes)
