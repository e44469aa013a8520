"""Writes the language part of Qwen-VL as a static graph.

python examples/qwen_vl/export_language_model.py --model_name_or_path qwen-vl/qwen-vl-chat-7b \
    --output_path ./checkpoints/encode_text/ --dtype bfloat16
"""

import typer

from paddlemix_qwenvl.deploy.commands import export_language_model

if __name__ == "__main__":
    typer.run(export_language_model)
