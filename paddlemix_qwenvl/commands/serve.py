"""`paddlemix-qwenvl serve`: a server of OpenAI's API, and a page to talk to it."""

from __future__ import annotations

import logging
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.commands.loading import load_any
from paddlemix_qwenvl.errors import ConfigurationError

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.session import Assistant
    from paddlemix_qwenvl.progress import OnProgress

EXTRA = ("fastapi", "prometheus_client", "uvicorn")


@options.grouped
def serve(
    model_path: options.ModelOrExport = "demo",
    *,
    serving: options.Serving,
    loading: options.Loading,
    running: options.Running,
    quantization: options.Int8 = None,
    no_cuda_graph: options.NoCudaGraph = False,
) -> None:
    """Serve a model by OpenAI's API; a page to talk to it is at the same address."""
    terminal.quiet()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.parallel import start_ranks

        model = options.given(quantization=quantization, no_cuda_graph=no_cuda_graph, **loading.given())
        how = options.given(max_model_len=serving.max_model_len, **running.given())

        if start_ranks(None, running.device):
            for told in (signal.SIGINT, signal.SIGTERM):  # all ranks get them; the first one says when it is over
                signal.signal(told, signal.SIG_IGN)
            return load_any(model_path, model, **how).follow()
        _check_extra()
        from paddlemix_qwenvl.commands.progress import loading_bar, quarters
        from paddlemix_qwenvl.server.service import Service
        from paddlemix_qwenvl.server.serving import serve as serve_until_told
        from paddlemix_qwenvl.server.settings import ServerSettings

        def load(on_progress: OnProgress) -> Assistant:
            with loading_bar() as bar:
                tell = bar or quarters(logging.info)
                return load_any(model_path, model, on_progress=lambda *far: (on_progress(*far), tell(*far)), **how)

        names = serving.served_model_name or [Path(model_path).name]
        serve_until_told(Service(load, names), ServerSettings(**serving.given()))


def _check_extra() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f'serve needs {" and ".join(missing)}, not installed: pip install "paddlemix_qwenvl[serve]".'
        )
