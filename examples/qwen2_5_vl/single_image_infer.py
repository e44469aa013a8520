"""Asks a question about an image.

python examples/qwen2_5_vl/single_image_infer.py --model_path Qwen/Qwen2.5-VL-3B-Instruct --image_file picture.jpg \
    --question "Describe this image." --max_new_tokens 128 --dtype bfloat16
"""

import typer

from paddlemix_qwenvl.cli import infer

if __name__ == "__main__":
    typer.run(infer)
