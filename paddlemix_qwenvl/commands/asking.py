"""One question and its answer on the terminal, whatever runs the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.progress import OnProgress
from paddlemix_qwenvl.text import repair

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.session import Assistant

REPEATS = 5


def ask(
    load: Callable[[OnProgress | None], Assistant],
    asking: options.Asking,
    device: str | None,
    mp_degree: int | None = None,
) -> None:
    """Load an assistant, ask it, and print what it says; of several ranks the first one prints."""
    terminal.quiet()
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.commands.progress import loading_bar, prompt_bar
        from paddlemix_qwenvl.models.conversations import question_about
        from paddlemix_qwenvl.parallel import start_ranks

        images, videos = asking.image_file or (), asking.video_file or ()
        if asking.draw:
            from paddlemix_qwenvl.commands.drawing import check_drawing, draw_answer

            check_drawing(asking.draw, images)
        settings = asking.settings() | asking.resizing()
        messages = [*asking.beginning(), question_about(repair(asking.question), images, videos, **asking.sampling())]
        rank = start_ranks(mp_degree, device)
        with loading_bar(hidden=bool(rank)) as on_progress:
            assistant = load(on_progress)
        on_text = None if asking.as_json or rank else terminal.stream
        with prompt_bar(assistant.processor, messages, hidden=bool(rank)) as on_progress:
            answer = assistant.answer(messages, on_text=on_text, on_progress=on_progress, **settings)
        report, lines = answer.as_dict(), []
        if asking.draw and not rank:
            lines = draw_answer(answer, images, asking.draw)
        if asking.benchmark:
            report["benchmark"] = assistant.benchmark(REPEATS, messages, **settings)
    if not rank:
        terminal.print_report(report, asking.as_json, map(repair, lines))
