"""What is asked of each checkpoint: seeded pictures, clips and conversations. Plain data; no model is touched here.

Conversations are in the Hub's format; an image is a file name relative to the reference folder, a video a list of them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PICTURE_SIZES = (
    (28, 28),
    (31, 29),
    (56, 448),
    (97, 211),
    (224, 224),
    (333, 100),
    (420, 1500),
    (640, 480),
    (1000, 30),
    (1500, 420),
)
# name: frames, width, height
CLIPS = {"short": (6, 176, 128), "odd": (5, 61, 90), "single": (1, 56, 56), "long": (24, 28, 28)}

TEXTS = (
    "Describe this image in one sentence.",
    "这张图片里有什么？请用中文回答，并给出坐标。",
    "Ünïcödé, naïve café — “quotes” … 1,234.56 € ½ e\u0301",
    "🐱‍👤👍🏽🇨🇳 emoji 👩‍👩‍👧‍👦 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "def area(box):\n\tx1, y1, x2, y2 = box\n    return (x2 - x1) * (y2 - y1)  # px²\n\n\n",
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>hi<|im_end|>\n<|endoftext|>",
    '<tool_call>\n{"name": "click", "arguments": {"x": 10, "y": -3.5e-7}}\n</tool_call><|fim_prefix|>a<|fim_suffix|>',
    "<|object_ref_start|>the cat<|object_ref_end|><|box_start|>(12,34),(567,890)<|box_end|>",
    "  leading, trailing  \r\n\r\n tabs\t\tand\u00a0nbsp \u3000全角　空格  ",
    "I'll we've DON'T it's 2024年10月1日 3.14159 ١٢٣ हिन्दी العربية 한국어 ไทย",
    "<|im_start|><|not_a_token|> <|image_pad <image> </tool_call",
    "",
)


GREEDY = {"greedy_ids": {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False, "repetition_penalty": 1.0}}
PENALISED = {"penalised_ids": {**GREEDY["greedy_ids"], "repetition_penalty": 1.3}}
# Sampling as generation_config.json has it: a penalty of 1.05 at a temperature that leaves one choice.
DEFAULTS = {"default_ids": {"max_new_tokens": 32}}


@dataclass(frozen=True)
class Case:
    """A batch of conversations: `fps` has one entry a video, for models that count seconds, `generations` are the runs, name ->
    `generate` arguments."""

    name: str
    conversations: list
    fps: tuple[float, ...] = ()
    template: dict = field(default_factory=dict)
    generations: dict = field(default_factory=lambda: GREEDY)
    gradients: bool = False


def picture_file(width: int, height: int) -> str:
    return f"images/{width}x{height}.png"


def frame_files(clip: str) -> list[str]:
    return [f"videos/{clip}-{i}.png" for i in range(CLIPS[clip][0])]


def draw(width: int, height: int, seed: int) -> Image.Image:
    """A gradient with shapes and a grid of lines over it: detail at every scale, and it still packs well."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    slopes, offsets = generator.uniform(-200, 200, (2, 3)), generator.uniform(60, 200, 3)
    pixels = x[..., None] * slopes[0] + y[..., None] * slopes[1] + offsets
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = generator.integers(0, width), generator.integers(0, height)
        right, bottom = left + generator.integers(1, width // 2 + 2), top + generator.integers(1, height // 2 + 2)
        shape = canvas.rectangle if generator.random() < 0.5 else canvas.ellipse
        shape((int(left), int(top), int(right), int(bottom)), fill=tuple(map(int, generator.integers(0, 256, 3))))
    for _ in range(6):
        ends = generator.integers(0, max(width, height), 4)
        canvas.line(tuple(map(int, ends)), fill=tuple(map(int, generator.integers(0, 256, 3))), width=1)
    return image


def draw_everything(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "videos").mkdir()
    for seed, (width, height) in enumerate(PICTURE_SIZES):
        draw(width, height, seed).save(folder / picture_file(width, height))
    for seed, (clip, (_, width, height)) in enumerate(CLIPS.items(), start=100):
        scene = draw(width * 2, height, seed)
        for i, file in enumerate(frame_files(clip)):
            scene.crop((i * 9, 0, i * 9 + width, height)).save(folder / file)


def image(width: int, height: int) -> dict:
    return {"type": "image", "image": picture_file(width, height)}


def video(clip: str) -> dict:
    return {"type": "video", "video": frame_files(clip)}


def user(*parts) -> dict:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def single(width: int, height: int, question: str) -> Case:
    return Case(f"image_{width}x{height}", [[user(image(width, height), question)]])


THREE_IMAGES = [
    user("Compare ", image(97, 211), " with ", image(31, 29), " and ", image(333, 100), ": which is wider?")
]
TURNS = [
    {"role": "system", "content": "你是一个简洁的助手。"},
    user(image(224, 224), "这是什么？"),
    {"role": "assistant", "content": "一些形状 🔷🔶。"},
    user("And now?", image(31, 29)),
]
BATCH = [
    [user("你好！请介绍一下你自己。 Who are you? 🤖")],
    [user(image(56, 448), "?")],
    THREE_IMAGES,
    [{"role": "system", "content": "Short answers."}, user("1 + 1 = ")],
]
CASES = {
    "tied": [
        single(28, 28, "What colour?"),
        single(1500, 420, "Describe this panorama."),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("short"), "What happens?")]], fps=(1.5,)),
        Case("long_video", [[user(video("long"), "And now?")]], fps=(23.976,)),
        Case("batch", BATCH, gradients=True),
        Case("text", [[user(TEXTS[1])]]),
        Case("text_batch", [[user(TEXTS[1])], [user(TEXTS[3])], [user("Hi")]]),
    ],
    "sharded": [
        single(640, 480, "Read the text."),
        single(56, 448, "Tall or wide?"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("odd"), "Count the frames.")]], fps=(29.97,)),
        # Rates at which seconds times steps a second falls next to a whole number: positions are cut off in float32.
        Case("long_video", [[user(video("long"), video("long"), video("long"), "Which?")]], fps=(25.0, 1.2, 12.5)),
        Case(
            "batch",
            [
                *BATCH,
                [user(video("short"), "then ", image(28, 28), " then ", video("odd"), "?")],
                [user(video("single"))],
            ],
            fps=(3.0, 0.7, 1.0),
        ),
        Case("turns", [TURNS], template={"add_vision_id": True}),
    ],
    "windows": [
        single(333, 100, "描述这张图。"),
        single(420, 1500, "What is at the bottom?"),
        single(1000, 30, "A ruler?"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("short"), "What happens?")]], fps=(2.0,)),
        Case("batch", BATCH, gradients=True),
    ],
    "heads": [
        single(224, 224, "Where is the circle?"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user("Before ", video("short"), image(97, 211), " after")]], fps=(4.0,)),
        Case("batch", BATCH),
        Case("turns", [TURNS], generations=GREEDY | PENALISED | DEFAULTS),
    ],
    "seven": [
        single(97, 211, "What is this?"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("odd"), "Slow or fast?")]], fps=(0.3,)),
        Case("batch", BATCH),
    ],
    "vocabulary": [
        single(31, 29, "这是什么？"),
        Case("text", [[user(TEXTS[4])]], generations=GREEDY | PENALISED | DEFAULTS),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("short"), "发生了什么？")]], fps=(1.0,)),
        Case("batch", BATCH),
    ],
    "qwen2_vl_tied": [
        single(31, 29, "What colour?"),
        single(1500, 420, "Describe this panorama."),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("short"), "What happens?")]]),
        Case("batch", BATCH, gradients=True),
    ],
    "qwen2_vl_sharded": [
        single(97, 211, "Read the text."),
        Case("three_images", [THREE_IMAGES]),
        Case("long_video", [[user(video("long"), video("odd"), "Which?")]]),
        Case("batch", [*BATCH, [user(video("short"), "then ", image(28, 28), " then ", video("odd"), "?")]]),
    ],
    "qwen2_vl_heads": [
        single(420, 1500, "Where is the circle?"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user("Before ", video("odd"), image(97, 211), " after")]]),
        Case("turns", [TURNS], template={"add_vision_id": True}, generations=GREEDY | PENALISED | DEFAULTS),
    ],
    "qwen2_vl_seven": [
        single(333, 100, "描述这张图。"),
        Case("three_images", [THREE_IMAGES]),
        Case("video", [[user(video("single"), "Slow or fast?")]]),
        Case("batch", BATCH),
    ],
}
