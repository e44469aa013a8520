"""Runs the examples of Qwen2.5-VL and writes gallery.md of what they say and draw.

PYTHONPATH=.. python make_gallery.py

For Chinese labels it needs a font that has them (Debian, Ubuntu: apt-get install fonts-wqy-zenhei).
"""

import contextlib
import importlib.util
import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from paddlemix_qwenvl.media import load_image

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "qwen2_5_vl"
INPUTS, PICTURES = EXAMPLES / "inputs", HERE / "gallery"
LONGEST = 640  # a side of a picture in the page

INTRODUCTION = """# What the examples say and draw

Made on {date} by `docs/make_gallery.py`, which runs the scripts in `examples/qwen2_5_vl` as they are, with the model that ships
(`demo`; what it can and cannot do is in `examples/demo/README.md`). It was never shown videos, pages or screens. For
these, and for Chinese labels, a second answer is read from a file in `examples/qwen2_5_vl/inputs`: **no model gave that answer**.
It was written from where things were drawn, in the form that Qwen2.5-VL gives such answers, to show what the package makes of it.
Under each picture stands which answer it shows.
"""

# title, script, arguments, pictures shown before, what the picture shows
SHOWN = (
    ("Several images", "multi_image_infer", {}, ("one.png", "two.png"), ""),
    ("A batch", "batch_infer", {}, (), ""),
    ("Boxes on the picture that the user gave", "grounding_infer", {}, (), "The answer of `demo`."),
    (
        "The same picture with labels in Chinese",
        "grounding_infer",
        {"question": "找出所有形状。", "max_pixels": 512 * 28 * 28, "answer_file": INPUTS / "shapes_zh.txt"},
        (),
        "The answer in `shapes_zh.txt`.",
    ),
    ("Times in a video", "video_infer", {"answer_file": INPUTS / "film.txt"}, (), ""),
    ("A page", "document_infer", {"answer_file": INPUTS / "page.html"}, (), "The answer in `page.html`."),
    (
        "A screen",
        "agent_infer",
        {"max_pixels": 144 * 28 * 28, "answer_file": INPUTS / "screen.txt"},
        (),
        "The answer in `screen.txt`.",
    ),
)
NOTES = {
    "grounding_infer": "`turned.jpg` is stored lying on its side and has an EXIF orientation; boxes are in the pixels of what a "
    "viewer shows.",
    "video_infer": "The video is `film.mp4` in `inputs`, 12 s long.",
    "agent_infer": "The action is data; nothing carries it out.",
}


def run(script: str, arguments: dict) -> str:
    """What the script prints."""
    spec = importlib.util.spec_from_file_location(script, EXAMPLES / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        module.main(**arguments)
    return said.getvalue().rstrip()


def save(image: Image.Image, name: str) -> str:
    """The picture, no larger than the page needs it, in Markdown."""
    image.thumbnail((LONGEST, LONGEST))
    image.save(PICTURES / name, optimize=True)
    return f"![{name}](gallery/{name})"


def section(number: int, title: str, script: str, arguments: dict, before: tuple, caption: str) -> str:
    output = PICTURES / f"{number}.png"
    options = (
        {**arguments, "output": output.with_suffix("") if script == "document_infer" else output}
        if caption
        else arguments
    )
    said = run(script, options)
    words = "".join(
        f' --{name} "{value}"' if " " in str(value) or name == "question" else f" --{name} {value}"
        for name, value in arguments.items()
    )
    command = f"python examples/qwen2_5_vl/{script}.py{words}".replace(f"{EXAMPLES}/", "examples/qwen2_5_vl/")
    parts = [f"## {title}", NOTES.get(script, ""), *(save(load_image(str(INPUTS / name)), name) for name in before)]
    parts += [f"````console\n$ {command}\n{said}\n````"]
    if caption:
        parts += [save(Image.open(output), output.name), caption]
    markdown = output.with_suffix(".md")
    if markdown.exists():
        parts += [
            "And the page as Markdown:",
            "> " + markdown.read_text(encoding="utf-8").strip().replace("\n", "\n> "),
        ]
        markdown.unlink()
    return "\n\n".join(filter(None, parts))


def main() -> None:
    sys.path.insert(0, str(EXAMPLES))  # the scripts share a module
    PICTURES.mkdir(exist_ok=True)
    sections = [section(number, *shown) for number, shown in enumerate(SHOWN, 1)]
    introduction = INTRODUCTION.format(date=datetime.now(UTC).strftime("%d %B %Y"))
    (HERE / "gallery.md").write_text("\n\n".join([introduction.strip(), *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
