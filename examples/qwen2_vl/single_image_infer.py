"""Asks a question about an image.

python examples/qwen2_vl/single_image_infer.py --model_path Qwen/Qwen2-VL-2B-Instruct --image_file picture.jpg \
    --question "Describe this image." --max_new_tokens 128 --dtype bfloat16

Without --image_file it takes the picture in examples/images.
"""

from pathlib import Path

import typer

from paddlemix_qwenvl.commands.infer import infer
from paddlemix_qwenvl.commands.options import with_defaults

PICTURE = Path(__file__).parents[1] / "images" / "shapes.png"

if __name__ == "__main__":
    typer.run(with_defaults(infer, image_file=[str(PICTURE)]))
