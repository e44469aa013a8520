"""Answers a question about an image with Qwen2.5-VL's exported graphs, without PaddleNLP.

python examples/qwen2_5_vl/run_static_predict.py --first_model_path ./checkpoints/encode_image/vision \
    --second_model_path ./checkpoints/encode_text/qwen --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --image_file picture.jpg

Without --image_file it takes the picture in examples/images.
"""

from pathlib import Path

import typer

from paddlemix_qwenvl.commands.options import with_defaults
from paddlemix_qwenvl.commands.predict import predict_command

PICTURE = Path(__file__).parents[1] / "images" / "shapes.png"

if __name__ == "__main__":
    typer.run(with_defaults(predict_command("qwen2_5_vl"), image_file=[str(PICTURE)]))
