"""`paddlemix-qwenvl infer | export | predict | doctor`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import static as commands
from paddlemix_qwenvl.environment import keep_freed_memory
from paddlemix_qwenvl.errors import MissingFontWarning, QwenVLError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class DType(str, Enum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Quantization(str, Enum):
    int8 = "int8"


class VisionParallel(str, Enum):
    tensor = "tensor"
    data = "data"


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What this package raises on purpose, and files that cannot be had, end the command with the message alone."""
    try:
        yield
    except (QwenVLError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def quiet_hosts() -> None:
    """Keep what Paddle and PaddleNLP say besides errors off the terminal, where the answer goes; the process is ours."""
    keep_freed_memory()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", MissingFontWarning)
    with contextlib.redirect_stderr(io.StringIO()):  # Paddle warns of a user's OMP_NUM_THREADS
        import paddle  # noqa: F401
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")


def with_defaults(command: Callable[..., None], **defaults) -> Callable[..., None]:
    """`command` with other defaults of its options, for a script."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        option.replace(default=defaults.get(name, option.default)) for name, option in signature.parameters.items()
    ]

    @functools.wraps(command)
    def run(**given):
        command(**given)

    run.__signature__ = signature.replace(parameters=options)
    return run


def print_json(report: dict) -> None:
    """One line, which can be encoded whatever a model or a user wrote."""
    from paddlemix_qwenvl.grounding.text import repair

    typer.echo(repair(json.dumps(report, ensure_ascii=False)))


@app.command()
def infer(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    image_file: Annotated[
        list[str] | None, typer.Option("--image_file", help="path or URL; may be given several times")
    ] = None,
    question: Annotated[str, typer.Option("--question")] = "Describe this image.",
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 128,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0: the likeliest token (default: the model's own)")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top_p", help="(default: the model's own)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of sampling")] = 0,
    dtype: Annotated[DType | None, typer.Option("--dtype", help="(default: the model's own)")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, gpu or gpu:N (default: a GPU if any)")] = None,
    quantization: Annotated[Quantization | None, typer.Option("--quantization", help="weights as int8")] = None,
    mp_degree: Annotated[
        int | None,
        typer.Option("--mp_degree", min=1, help="ranks of tensor parallelism (default: as many as were launched)"),
    ] = None,
    vision_parallel: Annotated[
        VisionParallel | None,
        typer.Option("--vision_parallel", help="vision tower split over the ranks, or whole on each (default: tensor)"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry_run",
            help="print the memory each rank would take, without weights; --model_path may be 3B, 7B, 32B, 72B",
        ),
    ] = False,
    card_gib: Annotated[float, typer.Option("--card_gib", min=1, help="memory of a card, for --dry_run")] = 80,
    draw: Annotated[
        str | None, typer.Option("--draw", help="write the picture to this file, with the boxes of the answer on it")
    ] = None,
    from_hf_hub: Annotated[bool, typer.Option("--from_hf_hub", help="download from the Hugging Face Hub")] = False,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="repeat, and print times and memory")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")] = False,
) -> None:
    """Answer a question about one or more images."""
    from paddlemix_qwenvl.commands.infer import Assistant, plan_lines, start_ranks
    from paddlemix_qwenvl.grounding.text import repair

    quiet_hosts()
    choices = {"dtype": dtype, "quantization": quantization, "vision_parallel": vision_parallel}
    how = {name: choice.value for name, choice in choices.items() if choice is not None}
    with plain_errors():
        if dry_run:
            for line in plan_lines(model_path, card_gib, from_hf_hub=from_hf_hub, **how):
                typer.echo(line)
            return
        rank = start_ranks(mp_degree, device)
        assistant = Assistant.load(model_path, device=device, from_hf_hub=from_hf_hub, **how)
        settings = {
            "max_new_tokens": max_new_tokens,
            "do_sample": None if temperature is None else temperature > 0,
            "temperature": temperature or None,
            "top_p": top_p,
            "seed": seed,
        }
        answer = assistant.ask(
            repair(question), image_file or (), on_text=None if as_json or rank else _show, **settings
        )
        report = answer.as_dict()
        pictures = answer.draw(image_file or (), draw) if draw and not rank else []
        if benchmark:
            report["benchmark"] = assistant.benchmark(5, repair(question), image_file or (), **settings)
    if rank:
        return
    if as_json:
        print_json(report)
        return
    typer.echo()
    for line in pictures:
        typer.echo(repair(line))
    for name, value in report.get("benchmark", {}).items():
        typer.echo(f"{name:22} {value:.4g}")


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


app.command()(commands.export)
app.command()(commands.predict)


@app.command()
def doctor(
    model_path: Annotated[
        str | None, typer.Option("--model_path", help="also look at the files and weights in this folder")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")] = False,
) -> None:
    """Say what this machine offers and what is wrong; exit 1 if inference would fail."""
    from paddlemix_qwenvl.commands.doctor import diagnose

    findings = diagnose()
    if model_path is not None:
        from paddlemix_qwenvl.commands.model_doctor import examine

        quiet_hosts()
        findings += examine(model_path)
    fatal = sum(finding.fatal for finding in findings)
    if as_json:
        print_json({"ok": not fatal, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(finding)
        warned = sum(bool(finding.remedy) for finding in findings) - fatal
        typer.echo(f"inference {'would fail' if fatal else 'can run'}: {fatal} failures, {warned} warnings")
    raise typer.Exit(1 if fatal else 0)


if __name__ == "__main__":
    app()
