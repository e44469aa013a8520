"""Writes the vision part of Qwen2.5-VL as a static graph.

python examples/qwen2_5_vl/export_image_encoder.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \
    --save_path ./checkpoints/encode_image/vision
"""

import typer

from paddlemix_qwenvl.commands.export import export_image_encoder

if __name__ == "__main__":
    typer.run(export_image_encoder)
