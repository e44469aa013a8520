"""Times in answers about videos, in seconds of the original."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Segment, parse_times


def read(text):
    return [(segment.start, segment.end) for segment in parse_times(text)]


def test_the_cookbooks_answers():
    """Grounding in prose and events in JSON, as in video_understanding.ipynb."""
    (segment,) = parse_times("The given query happens in 64.0 - 72.0 seconds.")
    assert segment == Segment(64.0, 72.0, "", "64.0 - 72.0 seconds")
    event = '{\n  "start_time": "00:23.90",\n  "end_time": "01:35.60",\n  "description": "They cut it."\n}'
    (segment,) = parse_times(f"```json\n[\n{event}\n]\n```")
    assert (segment.start, segment.end, segment.text) == (23.9, 95.6, "They cut it.")
    assert parse_times("**00:23.90 - 01:35.60:**\t\tThey cut it.") == [
        Segment(23.9, 95.6, "They cut it.", "00:23.90 - 01:35.60")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"start_time": 5, "end_time": 7.25}', [(5, 7.25)]),
        ('{"start": "5s", "end": "1:05"}', [(5, 65)]),
        ('{"start_time": "01:02:03.5", "end_time": "1:02:04"}', [(3723.5, 3724)]),
        ('{"end_time": 5, "start_time": 7}', [(5, 7)]),
        ('{"timestamp": "00:10 - 00:20"}', [(10, 20)]),
        ('{"timestamp": "00:10.5"}', [(10.5, 10.5)]),
        ('{"segment": [1, 2.5]}', [(1, 2.5)]),
        ('{"events": [{"time": 3}, {"time": "4 s"}]}', [(3, 3), (4, 4)]),
        ("{'start_time': '00:01', 'end_time': '00:02',}", [(1, 2)]),
        ('[{"start_time": "00:01", "end_time": "00:02"}, {"start_time": "00:03", "end_t', [(1, 2)]),
        ('[{"start_time": "00:01", "end_time": "00:02"}, {"start_time": 3, "end_time": 4', [(1, 2)]),
        ('{"answer": "It happens from 64.0 to 72.0 seconds."}', [(64, 72)]),
        ('{"start_time": "later"}', []),
        ('{"start_time": 1e999, "end_time": -3}', []),
        ("from 5 to 10 s", [(5, 10)]),
        ("at 12.5s, 1 min 20 s and 90 seconds", [(12.5, 12.5), (80, 90)]),
        ("1分20秒到95秒，第12秒", [(80, 95), (12, 12)]),
        ("between 00:05 and 00:07", [(5, 7)]),
        ("[00:10 - 00:20] A man; [00:21 – 00:30] a dog", [(10, 20), (21, 30)]),
        ("1:02:03.5 ~ 1:02:05", [(3723.5, 3725)]),
        ('At 00:05 the list {"a": 1} ends, at 00:06 too', [(5, 5), (6, 6)]),
        ("3 dogs, 2024, 16:9, the 1980s, 7 steps, 12:345, 1.2.3", []),
        ("", []),
    ],
)
def test_every_form(text, expected):
    assert read(text) == expected


def test_the_text_of_a_line_that_begins_with_a_time():
    answer = "Events:\n- 00:01 - 00:02: jumps\n2. **00:05** runs, at 00:06 still\n| 7 seconds | falls |"
    assert [segment.text for segment in parse_times(answer)] == ["jumps", "runs, at 00:06 still", "", "falls"]


def test_times_of_a_part_are_those_of_the_whole_video():
    segments = parse_times("0:05 - 0:10, 0:25 - 0:50 and 1:20", video_start=60.0, video_end=90.0)
    assert [(segment.start, segment.end) for segment in segments] == [(65.0, 70.0), (85.0, 90.0), (90.0, 90.0)]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 35_999_99), st.integers(0, 35_999_99))
def test_any_time_in_any_form_is_the_same(first, second):
    start, end = sorted((first / 100, second / 100))

    def clock(seconds):
        return f"{int(seconds // 60):02d}:{round(seconds % 60, 2):05.2f}"

    forms = (
        f'{{"start_time": "{clock(start)}", "end_time": "{clock(end)}"}}',
        f'{{"start_time": {start}, "end_time": {end}}}',
        f"{start:.2f} - {end:.2f} seconds",
        f"{clock(start)} - {clock(end)}",
    )
    for text in forms:
        assert read(text) == [(pytest.approx(start, abs=0.006), pytest.approx(end, abs=0.006))], text


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 5), (6, 5), (float("nan"), 5)])
def test_an_empty_part(start, end):
    with pytest.raises(GroundingError, match="0 <= video_start < video_end"):
        parse_times("", start, end)
