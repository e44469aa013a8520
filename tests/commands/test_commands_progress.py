"""The bar of a prompt, on a stream that says it is a terminal, by a clock that the test sets."""

import io
import sys
from types import SimpleNamespace

import pytest

from paddlemix_qwenvl.commands import progress

MESSAGES = [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "?"}]}]
RESIZES = SimpleNamespace(image_processor=SimpleNamespace(max_pixels=100))
TAKES_ALL = SimpleNamespace(image_processor=SimpleNamespace(image_size=448))
TEXT = [{"role": "user", "content": "?"}]
HINT = "the prompt of 15323 tokens takes minutes: --max_pixels makes fewer of its pictures and frames\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch, processor, messages, seconds_a_chunk, vision=0.0) -> str:
    """What stands on the terminal of a prompt of 15323 tokens, 512 at a time."""
    stream, now = Terminal(), [0.0]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with progress.prompt_bar(processor, messages) as on_progress:
        on_progress(0, 15323)
        now[0] += vision
        for done in (*range(512, 15323, 512), 15323):
            now[0] += seconds_a_chunk
            on_progress(done, 15323)
        assert stream.getvalue().endswith("\r")  # gone, before the answer begins
        assert not stream.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()
    return stream.getvalue()


def test_a_bar_with_tokens(monkeypatch):
    text = shown(monkeypatch, RESIZES, MESSAGES, seconds_a_chunk=1.0)
    assert "Prompt:   0%|" in text and "| 0/15323 [" in text and "max_pixels" not in text


@pytest.mark.parametrize(("processor", "messages"), [(RESIZES, MESSAGES), (TAKES_ALL, MESSAGES), (RESIZES, TEXT)])
def test_over_a_minute_it_names_what_makes_it_shorter(monkeypatch, processor, messages):
    """28 chunks are left after the second: at 2.2 seconds each, over a minute. Only where it would make it shorter."""
    helps = processor is RESIZES and messages is MESSAGES
    assert shown(monkeypatch, processor, messages, seconds_a_chunk=2.2).count(HINT) == helps
    assert shown(monkeypatch, processor, messages, seconds_a_chunk=2.1).count(HINT) == 0


def test_the_time_of_the_pictures_is_not_taken_for_that_of_tokens(monkeypatch):
    assert "max_pixels" not in shown(monkeypatch, RESIZES, MESSAGES, seconds_a_chunk=1.0, vision=100.0)


def test_an_error_takes_the_bar_away(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(ZeroDivisionError), progress.prompt_bar(RESIZES, MESSAGES) as on_progress:
        on_progress(0, 15323)
        _ = 1 / 0
    assert stream.getvalue().endswith("\r")


def test_nothing_where_nobody_sees_it(monkeypatch, capsys):
    with progress.prompt_bar(RESIZES, MESSAGES) as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.prompt_bar(RESIZES, MESSAGES, hidden=True) as on_progress:
        assert on_progress is None


def test_a_bar_of_loading_where_it_takes_over_a_second(monkeypatch):
    for seconds, is_seen in ((0.2, False), (1.0, True)):
        stream, now = Terminal(), [0.0]
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr("tqdm.std.time", lambda now=now: now[0])
        with progress.loading_bar() as on_progress:
            for done in (1, 2, 3, 4):
                now[0] += seconds
                on_progress(done, 4)
        assert ("Loading:  50%|" in stream.getvalue()) == is_seen
        assert not stream.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()


def test_no_bar_of_loading_where_nobody_sees_it(monkeypatch, capsys):
    with progress.loading_bar() as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.loading_bar(hidden=True) as on_progress:
        assert on_progress is None


@pytest.mark.parametrize(
    ("whole", "shares"), [(100, [25, 50, 75, 100]), (3, [25, 50, 100]), (1, [100]), (7, [25, 50, 75, 100])]
)
def test_lines_of_loading(whole, shares):
    lines = []
    tell = progress.quarters(lines.append)
    for done in range(1, whole + 1):
        tell(done, whole)
    assert lines == [f"loading: {share} %" for share in shares]
