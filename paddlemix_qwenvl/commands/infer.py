"""`paddlemix-qwenvl infer`: one question about pictures and videos."""

from __future__ import annotations

from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options
from paddlemix_qwenvl.commands.asking import ask


@options.grouped
def infer(
    model_path: options.ModelPath = "demo",
    *,
    asking: options.Asking,
    loading: options.Loading,
    sharing: options.Sharing,
    running: options.Running,
    no_cuda_graph: options.NoCudaGraph = False,
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
) -> None:
    """Answer a question about pictures and videos."""
    if dry_run:
        from paddlemix_qwenvl.commands.plan import print_plan

        return print_plan(model_path, loading, sharing)

    def load(on_progress):
        from paddlemix_qwenvl.engine.session import Assistant

        how = options.given(
            quantization=sharing.quantization,
            vision_parallel=sharing.vision_parallel,
            no_cuda_graph=no_cuda_graph,
        )
        return Assistant.load(model_path, on_progress=on_progress, **running.given(), **how, **loading.given())

    ask(load, asking, running.device, mp_degree)
