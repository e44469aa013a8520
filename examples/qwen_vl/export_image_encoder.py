"""Writes the vision part of Qwen-VL as a static graph.

python examples/qwen_vl/export_image_encoder.py --model_name_or_path qwen-vl/qwen-vl-7b-static \
    --save_path ./checkpoints/encode_image/vision
"""

import typer

from paddlemix_qwenvl.commands.export import export_image_encoder

if __name__ == "__main__":
    typer.run(export_image_encoder)
