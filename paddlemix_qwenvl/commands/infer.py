"""`paddlemix-qwenvl infer`: one question about one or more images."""

from __future__ import annotations

from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.text import repair


@options.grouped
def infer(
    model_path: options.ModelPath = "demo",
    *,
    asking: options.Asking,
    loading: options.Loading,
    sharing: options.Sharing,
    device: options.Device = None,
    mp_degree: Annotated[
        int | None,
        typer.Option("--mp_degree", min=1, help="ranks of tensor parallelism (default: as many as were launched)"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry_run",
            help="print the memory each rank would take, without weights; --model_path may be 3B, 7B, 32B, 72B",
        ),
    ] = False,
    draw: Annotated[
        str | None, typer.Option("--draw", help="write the picture to this file, with the boxes of the answer on it")
    ] = None,
) -> None:
    """Answer a question about one or more images."""
    if dry_run:
        from paddlemix_qwenvl.commands.plan import print_plan

        return print_plan(model_path, loading, sharing)
    terminal.quiet()
    terminal.import_paddle()
    from paddlemix_qwenvl.engine.session import Assistant
    from paddlemix_qwenvl.parallel import start_ranks

    how = options.given(quantization=sharing.quantization, vision_parallel=sharing.vision_parallel)
    images = asking.image_file or ()
    asked = repair(asking.question), images
    with terminal.plain_errors():
        rank = start_ranks(mp_degree, device)
        assistant = Assistant.load(model_path, device=device, **how, **loading.given())
        on_text = None if asking.as_json or rank else terminal.stream
        answer = assistant.ask(*asked, on_text=on_text, **asking.settings())
        report = answer.as_dict()
        pictures = []
        if draw and not rank:
            from paddlemix_qwenvl.commands.drawing import draw_answer

            pictures = draw_answer(answer, images, draw)
        if asking.benchmark:
            report["benchmark"] = assistant.benchmark(5, *asked, **asking.settings())
    if not rank:
        terminal.print_report(report, asking.as_json, map(repair, pictures))
