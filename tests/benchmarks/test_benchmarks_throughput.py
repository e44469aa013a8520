"""Limits and the calculation of throughput.py, and its file of pieces."""

import limits
import pytest
import throughput
from options import DType
from random_checkpoint import config_3b

CONFIG = config_3b(layers=2, vision_blocks=1)
WIDTH, INNER, KV, WORDS = 2048, 11008, 256, 151936
LAYER = 2 * WIDTH * WIDTH + 2 * WIDTH * KV + 3 * WIDTH * INNER


def test_operations_and_bytes_of_a_prompt_and_of_a_step():
    operations, read = limits.language_work(CONFIG, DType.bfloat16, before=0, new=10, rows=1)
    assert operations == 2 * 2 * LAYER * 10 + 2 * WIDTH * WORDS + 4 * 2 * WIDTH * 55
    assert read == 2 * (2 * LAYER + WIDTH * WORDS) + 2 * 2 * KV * 10 * 2
    operations, read = limits.language_work(CONFIG, DType.int4, before=99, new=1, rows=3)
    assert operations == 3 * (2 * 2 * LAYER + 2 * WIDTH * WORDS + 4 * 2 * WIDTH * 100)
    assert read == (2 * LAYER + WIDTH * WORDS) / 2 + 2 * 2 * KV * 100 * 3 * 2


def test_operations_and_bytes_of_a_picture():
    """The only block has windows: a patch sees 64 others, or all of a smaller picture."""
    block = 4 * 1280 * 1280 + 3 * 1280 * 3420
    embed, merger = 1280 * 3 * 2 * 14 * 14, 5120 * 5120 + 5120 * 2048
    for patches, seen in ((256, 64), (16, 16)):
        operations, read = limits.vision_work(CONFIG, DType.int8, patches)
        assert operations == 2 * ((block + embed) * patches + merger * patches / 4) + 4 * 1280 * patches * seen
        assert read == block + embed + merger


@pytest.mark.parametrize(
    "one, several, threads, cores, wanted",
    [
        (10, 6, 2, 8, 3),
        (10, 5, 2, 64, 10 / 64),
        (10, 10, 4, 32, 10),
        (10, 4, 2, 8, 1.25),
    ],  # the last by chance too fast
)
def test_more_cores_by_amdahl(one, several, threads, cores, wanted):
    assert limits.amdahl(one, several, threads, cores) == pytest.approx(wanted)


def piece(**changes) -> dict:
    about = {"cpu": "a CPU", "dtype": "int8", "layers": 2, "threads": 1, "kind": "prefill", "size": 100}
    return {**about, "seconds": [10.0, 30.0, 20.0], "operations": 5.0, "bytes": 1.0, **changes}


def test_pieces_are_kept_and_taken_again(tmp_path):
    file = tmp_path / "found.json"
    for each in (piece(), piece(size=200), piece(threads=2), piece(seconds=[1.0])):
        throughput.add(file, each)
    assert throughput.read(file) == [piece(size=200), piece(threads=2), piece(seconds=[1.0])]


def test_the_report_has_limits_and_a_calculation_that_is_called_one(tmp_path, capsys):
    file = tmp_path / "found.json"
    throughput.add(file, piece())
    throughput.report(file)
    told = capsys.readouterr().out
    assert "| prefill | int8 | 1 | 100 tokens of the prompt | 200 | 50 | 10 | 25% |" in told
    assert "calculation" not in told  # there is one number of threads
    throughput.add(file, piece(threads=2, seconds=[12.0]))
    throughput.report(file)
    told = capsys.readouterr().out
    assert "A calculation, not a measurement" in told
    assert "| prefill | int8 | 100 tokens of the prompt | 200 | 120 on 2 | 60 | 45 | 42.5 |" in told
