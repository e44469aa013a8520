"""Changed settings files through PaddleNLP's Auto classes: only this package's own errors may come of them, and soon.

`python tests/fuzz_settings.py COUNT [FIRST_SEED]` makes COUNT changes, of all targets by turns, and prints what came of them: the
kinds of exceptions, the slowest, and values that were taken although their type is another than the file's own.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import changed_settings

LIMIT = 2.0  # seconds
# One for all or a list, one or several, text or with flags, a total with a fraction, 1e30 for no end.
OF_SEVERAL_TYPES = ("image_mean", "image_std", "chat_template", "eos_token", "pad_token", "eos_token_id", "total_size")
OF_SEVERAL_TYPES += ("model_max_length",)


@dataclass(frozen=True)
class Target:
    """A file that is changed, in one of the folders, and what is done with the folder then.

    Attributes:
        in_part: no more than a part of the file is read, so that the types of the rest do not matter.
    """

    folder: str
    file: str
    use: Callable[[Path], object]
    in_part: bool = False

    def __str__(self) -> str:
        return f"{self.folder}/{self.file} {self.use.__name__}"


@dataclass
class Outcome:
    """What came of one change; `silent` are (key, value) of what was taken with another type."""

    target: Target
    seed: int
    seconds: float
    error: BaseException | None
    silent: list[tuple]


def outcome(target: Target, seed: int, folders: dict[str, Path], work: Path) -> Outcome:
    """Change the target's file by `seed` in a copy of its folder, whose weights are links, and use that."""
    source, folder = folders[target.folder], work / f"{target.folder}-{seed}"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for weights in source.glob("*.safetensors"):
        (folder / weights.name).symlink_to(weights)
    original = (folder / target.file).read_text(encoding="utf-8")
    content = changed_settings.changed(original, seed)
    (folder / target.file).write_bytes(content)
    started, error = time.perf_counter(), None
    try:
        target.use(folder)
    except BaseException as raised:  # a Rust library's panic is no Exception
        error = raised
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    looked_at = error is None and target.file.endswith(".json") and not target.in_part
    return Outcome(target, seed, seconds, error, list(other_types(original, content)) if looked_at else [])


def other_types(original: str, content: bytes) -> Iterator[tuple]:
    """(key, value) of what the changed file has with another type than the original; null is the default."""
    places = [((), json.loads(original), json.loads(content.decode("utf-8-sig")))]
    while places:
        path, old, new = places.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            places += [((*path, key), old[key], new[key]) for key in old.keys() & new.keys()]
        elif isinstance(old, list) and isinstance(new, list):
            places += [((*path, index), *pair) for index, pair in enumerate(zip(old, new, strict=False))]
        elif None not in (old, new) and path[-1:] not in [(key,) for key in OF_SEVERAL_TYPES] and not alike(old, new):
            yield path, new


def alike(old, new) -> bool:
    """Whether two values are of one kind: whole numbers may stand for others, and whole ones for lists of one kind."""
    return type(old) is type(new) or (isinstance(old, float) and type(new) is int)


def run(targets: list[Target], folders: dict[str, Path], work: Path, count: int, first: int = 0) -> Iterator[Outcome]:
    """Changes of all targets by turns."""
    for index in range(count):
        yield outcome(targets[index % len(targets)], first + index, folders, work)


def report(outcomes: Iterator[Outcome]) -> bool:
    """Prints what came of changes; whether all of it may be."""
    from paddlemix_qwenvl.errors import QwenVLError

    kinds, foreign, silent, slowest = Counter(), {}, {}, []
    for found in outcomes:
        kinds[str(found.target), type(found.error).__name__ if found.error else "loads"] += 1
        if found.error and not isinstance(found.error, QwenVLError):
            last = traceback.extract_tb(found.error.__traceback__)[-1]
            where = str(found.target), found.seed, str(found.error)[:150]
            foreign.setdefault((type(found.error).__name__, last.name), where)
        for path, value in found.silent:
            silent.setdefault(path, (str(found.target), found.seed, repr(value)[:60]))
        slowest = sorted([*slowest, (found.seconds, str(found.target), found.seed)], reverse=True)[:5]
    for (place, kind), number in sorted(kinds.items()):
        print(f"{number:6} {place:70} {kind}")
    print("not ours:", *(f"{key} {value}" for key, value in foreign.items()), sep="\n  ")
    print("taken with another type:", *(f"{key} {value}" for key, value in silent.items()), sep="\n  ")
    print("slowest:", *(f"{seconds:.2f} s {place} seed {seed}" for seconds, place, seed in slowest), sep="\n  ")
    return not foreign and not silent and slowest[0][0] <= LIMIT


def main(count: int, first: int = 0) -> int:
    """Files of models and of processors by turns; 1 if anything came of them that must not."""
    import fuzz_model_files
    import fuzz_processor_files
    from paddlenlp.utils.log import logger

    logger.set_level("CRITICAL")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        folders = fuzz_model_files.write_folders(root) | fuzz_processor_files.write_folders(root)
        targets = fuzz_model_files.TARGETS + fuzz_processor_files.TARGETS
        return int(not report(run(targets, folders, root / "changed", count, first)))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
