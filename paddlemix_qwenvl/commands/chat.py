"""`paddlemix-qwenvl chat`: a conversation about pictures and videos in the terminal, or line by line from a pipe."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.commands.loading import load_any
from paddlemix_qwenvl.errors import ParallelError, QwenVLError

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.session import Assistant


@options.grouped
def chat(
    model_path: options.ModelOrExport = "demo",
    *,
    showing: options.Showing,
    answering: options.Answering,
    loading: options.Loading,
    running: options.Running,
    quantization: options.Int8 = None,
    no_cuda_graph: options.NoCudaGraph = False,
    as_json: Annotated[bool, typer.Option("--json", help="print each answer as a line of JSON")] = False,
) -> None:
    """Talk about pictures and videos in the terminal; /help lists what can be typed besides questions."""
    terminal.quiet()
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.commands.conversation import Conversation
        from paddlemix_qwenvl.commands.progress import loading_bar
        from paddlemix_qwenvl.parallel import launched_ranks

        model = options.given(quantization=quantization, no_cuda_graph=no_cuda_graph, **loading.given())
        if launched_ranks() > 1:
            raise ParallelError(
                f"chat was launched as {launched_ranks()} processes and is one: start it alone, or use infer."
            )
        with loading_bar() as on_progress:
            assistant = load_any(model_path, model, on_progress=on_progress, **running.given())
        conversation = Conversation(assistant, answering, showing, as_json)
        terminal.say(_room(assistant))
        for kind, paths in (("image", showing.image_file), ("video", showing.video_file)):
            for path in paths or ():
                conversation.take(f"/{kind} {path}")
        _talk(conversation)


def _room(assistant: Assistant) -> str:
    engine = assistant.engine
    tokens = engine.blocks.num_blocks * engine.blocks.block_size
    gib = tokens * engine.facts.bytes_per_token() / 2**30
    return (
        f"The cache takes {gib:.3g} GiB and holds {tokens} tokens (--kv_cache_gib); a conversation may have "
        f"{min(tokens, engine.facts.context)}. /help lists what can be typed besides questions."
    )


def _talk(conversation) -> None:
    """Take lines until they end. What goes wrong with one is said, and the next one is taken."""
    if sys.stdin is None:  # closed by who started this
        return
    asks = sys.stdin.isatty()
    if asks:
        with suppress(ImportError):
            import readline  # noqa: F401, by which input() lets lines be edited
    sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        try:
            line = input("> " if asks else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            terminal.say("\n(/exit or Ctrl-D ends the chat)")
            continue
        if line.strip() == "/exit":
            return
        try:
            conversation.take(line)
        except BrokenPipeError:
            raise
        except (QwenVLError, OSError) as error:
            terminal.say(f"error: {error}")
