"""Asks a running server to locate things, with OpenAI's own client, and draws the boxes as they are told.

pip install openai pillow
paddlemix-qwenvl serve --model_path demo
python examples/serve/locate.py --image_file examples/images/shapes.png --output outputs/located.png
"""

import base64
import sys
from pathlib import Path
from typing import Annotated

import typer
from openai import OpenAI
from PIL import Image, ImageDraw


def main(
    image_file: Annotated[Path, typer.Option("--image_file")] = Path("examples/images/shapes.png"),
    question: Annotated[str, typer.Option("--question")] = "Locate all shapes.",
    address: Annotated[str, typer.Option("--address", help="of the server")] = "http://localhost:8000/v1",
    api_key: Annotated[str, typer.Option("--api_key", help="where the server wants one")] = "none",
    output: Annotated[Path | None, typer.Option("--output", help="picture with the boxes")] = None,
) -> None:
    uri = f"data:image;base64,{base64.b64encode(image_file.read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": question}]
    client = OpenAI(base_url=address, api_key=api_key)
    stream = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": content}],
        stream=True,
        extra_body={"grounding": True},
    )
    found = []
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", file=sys.stderr, flush=True)
            found += getattr(choice.delta, "grounding", None) or []
    print(file=sys.stderr)
    for item in found:  # in the picture's own pixels
        print(item["kind"], item["label"], *item["coords"])
    if output:
        draw(Image.open(image_file).convert("RGB"), found).save(output)


def draw(picture: Image.Image, found: list[dict]) -> Image.Image:
    """Boxes and points on a picture."""
    pen = ImageDraw.Draw(picture)
    for item in found:
        if item["kind"] == "box":
            pen.rectangle(item["coords"], outline="red", width=3)
        if item["kind"] == "point":
            x, y = item["coords"]
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill="red")
    return picture


if __name__ == "__main__":
    typer.run(main)
