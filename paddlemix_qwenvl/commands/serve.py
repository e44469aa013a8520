"""`paddlemix-qwenvl serve`: a server of OpenAI's API, and a page to talk to it."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.commands.loading import load_any


@options.grouped
def serve(
    model_path: options.ModelOrExport = "demo",
    *,
    host: Annotated[str, typer.Option("--host", help="address to listen at; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    served_model_name: Annotated[
        list[str] | None,
        typer.Option("--served_model_name", help="what requests call it; may be given several times"),
    ] = None,
    max_queue: Annotated[
        int, typer.Option("--max_queue", min=1, help="requests at a time; others are told to come again")
    ] = 256,
    loading: options.Loading,
    running: options.Running,
    quantization: options.Int8 = None,
) -> None:
    """Serve a model by OpenAI's API; a page to talk to it is at the same address."""
    terminal.quiet()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.server.service import Service
        from paddlemix_qwenvl.server.serving import serve as serve_until_told
        from paddlemix_qwenvl.server.settings import ServerSettings

        names = tuple(served_model_name or [model_path.rstrip("/")])
        settings = ServerSettings(host, port, names, max_queue=max_queue)
        model = options.given(quantization=quantization, **loading.given())
        service = Service(lambda: load_any(model_path, model, **running.given()), names)
        serve_until_told(service, _Pictures(), settings)


class _Pictures:
    """Pictures in data URIs."""

    async def load(self, parts):
        from paddlemix_qwenvl.media import load_image

        return [load_image(part[part["type"]]) for part in parts]
