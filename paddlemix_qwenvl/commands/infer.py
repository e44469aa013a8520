"""`paddlemix-qwenvl infer`: one question about one or more images."""

from __future__ import annotations

from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.text import repair


def infer(
    model_path: options.ModelPath = "demo",
    image_file: options.ImageFiles = None,
    question: options.Question = "Describe this image.",
    max_new_tokens: options.MaxNewTokens = 128,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    seed: options.Seed = 0,
    dtype: options.ModelDType = None,
    device: options.Device = None,
    quantization: options.Int8 = None,
    mp_degree: Annotated[
        int | None,
        typer.Option("--mp_degree", min=1, help="ranks of tensor parallelism (default: as many as were launched)"),
    ] = None,
    vision_parallel: options.OverRanks = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry_run",
            help="print the memory each rank would take, without weights; --model_path may be 3B, 7B, 32B, 72B",
        ),
    ] = False,
    card_gib: options.CardGiB = 80,
    draw: Annotated[
        str | None, typer.Option("--draw", help="write the picture to this file, with the boxes of the answer on it")
    ] = None,
    source: options.FromSource = None,
    from_hf_hub: options.FromHub = False,
    benchmark: options.Benchmark = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer a question about one or more images."""
    if dry_run:
        from paddlemix_qwenvl.commands.plan import plan

        return plan(model_path, dtype, quantization, vision_parallel, card_gib, source, from_hf_hub)
    terminal.quiet()
    terminal.import_paddle()
    from paddlemix_qwenvl.engine.session import Assistant
    from paddlemix_qwenvl.parallel import start_ranks

    how = options.given(
        dtype=dtype,
        quantization=quantization,
        vision_parallel=vision_parallel,
        source=source,
        from_hf_hub=from_hf_hub,
    )
    settings = options.sampling(max_new_tokens, temperature, top_p, seed)
    asked = repair(question), image_file or ()
    with terminal.plain_errors():
        rank = start_ranks(mp_degree, device)
        assistant = Assistant.load(model_path, device=device, **how)
        answer = assistant.ask(*asked, on_text=None if as_json or rank else terminal.stream, **settings)
        report = answer.as_dict()
        pictures = []
        if draw and not rank:
            from paddlemix_qwenvl.commands.drawing import draw_answer

            pictures = draw_answer(answer, image_file or (), draw)
        if benchmark:
            report["benchmark"] = assistant.benchmark(5, *asked, **settings)
    if not rank:
        terminal.print_report(report, as_json, map(repair, pictures))
