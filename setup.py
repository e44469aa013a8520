"""Packaging. Ranges here are what the package needs to import; the constraints*.txt hold sets known to work together."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="paddlemix_qwenvl",
    version="0.1.0",
    description="Qwen-VL and Qwen2.5-VL for PaddleMIX and PaddleNLP",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["paddlemix_qwenvl", "paddlemix_qwenvl.*"]),
    package_data={"paddlemix_qwenvl": ["demo/*", "server/page/*"]},
    install_requires=[
        "av>=12,<19",
        "filelock>=3.9",
        "huggingface_hub>=0.30,<3",
        "jinja2>=3.1.6",
        "llguidance>=1.9,<2",
        "lxml>=5",
        "numpy>=1.26,<3",
        "packaging>=23",
        "pillow>=10.1",
        "pydantic>=2.7,<3",
        "requests>=2.28",
        "tiktoken>=0.7",
        "tokenizers>=0.21,<0.24",
        "tqdm>=4",
        "typer>=0.12",
    ],
    extras_require={
        "cpu": ["paddlepaddle>=3.0,<4"],
        # From Paddle's own index: shell/build_paddle_env.sh picks the one for this machine's CUDA.
        "gpu": ["paddlepaddle-gpu>=3.0,<4"],
        # PaddleNLP does not import with newer ones of the rest.
        "paddlenlp": [
            "paddlenlp==3.0.0b4",
            "aistudio-sdk>=0.2.6,<0.3",
            "datasets>=2.14,<3.2",
            "numpy<2",
            "pyarrow<20",
            "tokenizers<0.22",
        ],
        "host": ["paddlemix_qwenvl[paddlenlp]", "ppdiffusers>=0.29"],
        "serve": ["fastapi>=0.115", "h11>=0.14", "prometheus-client>=0.20", "uvicorn>=0.30"],
        "test": [
            "paddlemix_qwenvl[serve]",
            "dashscope==2.0.2",
            "fonttools>=4",
            "httpx>=0.27",
            "hypothesis>=6",
            "jsonschema>=4.18",
            "langchain-openai>=1",
            "openai>=2",
            "pytest>=8",
            "pytest-xdist>=3",
            "ruff>=0.6",
            "safetensors>=0.6",
            "schemathesis>=4",
        ],
    },
    entry_points={"console_scripts": ["paddlemix-qwenvl=paddlemix_qwenvl.cli:app"]},
)
