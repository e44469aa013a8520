"""What an export folder holds, and whether it is still what was exported. Needs no Paddle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from paddlemix_qwenvl.errors import DeployError
from paddlemix_qwenvl.files import write_json

NAME = "manifest.json"
FORMAT = 4
PARTS = VISION, LANGUAGE = ("vision", "language")


def short_name(model: str) -> str:
    """The last part of a model's name or folder."""
    return Path(model).name


def graph_name(part: str, rank: int, degree: int) -> str:
    """Name of a rank's graph, without suffix."""
    return part if degree == 1 else f"{part}-{rank}-of-{degree}"


@dataclass
class Manifest:
    """The description of an export.

    Attributes:
        family: name of the family (`models/family.py`).
        model: what the model is called.
        parts: which graphs there are, "vision" and "language".
        degree: ranks of tensor parallelism, each of which has graphs of its own.
        dtype: of the weights.
        device: "cpu" or "gpu", where the graphs can run.
        versions: of Paddle and of this package.
        cache: layers, KV heads (of a rank), head width and dtype of the KV cache.
        tokens: "pad", "eos" (a list) and "vocab_size".
        vision: the vision tower's fields of the config.
        hidden_size: width of the features.
        context: tokens of prompt and answer together, at most.
        capability: compute capability of the cards that int8 weights are arranged for, None for any.
        compiled_ops: this package's compiled operations that the graphs call.
        checksums: file name -> SHA-256 of its content.
    """

    family: str
    model: str
    parts: list[str]
    degree: int
    dtype: str
    device: str
    versions: dict[str, str]
    cache: dict
    tokens: dict
    vision: dict
    hidden_size: int
    context: int
    capability: str | None = None
    compiled_ops: list[str] = field(default_factory=list)
    checksums: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write the manifest of a finished folder, with the checksums of all that is in it and the operations its graphs call."""
        names = sorted(path.name for path in folder.iterdir() if path.name != NAME)
        self.checksums = dict(zip(names, checksums(folder / name for name in names), strict=True))
        self.compiled_ops = compiled_operations(folder)
        write_json(folder / NAME, asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """The manifest of an export.

        Raises:
            DeployError: no export, or one of a later format.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / NAME).read_text(encoding="utf-8"))
            if fields.get("format") != FORMAT:
                raise DeployError(
                    f"{folder} has format {fields.get('format')}, this version reads {FORMAT}: export again."
                )
            return cls(**fields)
        except OSError as error:
            inside = [str(path.parent) for path in sorted(folder.glob(f"*/{NAME}"))]
            remedy = f"give {' or '.join(inside)}" if inside else "make one with `paddlemix-qwenvl export`"
            raise DeployError(f"{folder} holds no export ({NAME} is missing): {remedy}.") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DeployError(f"{folder / NAME} cannot be read ({error}): export again with this version.") from error

    def expect(self, folder: Path, part: str, family: str | None, degree: int) -> None:
        """Whether the export has `part` of `family` (None for any) for `degree` ranks.

        Raises:
            DeployError: it has not.
        """
        if part not in self.parts:
            raise DeployError(
                f"{folder} holds the {' and '.join(self.parts)} graph, not {part}: give the other folder."
            )
        if family not in (None, self.family):
            raise DeployError(f"{folder} is an export of {self.family!r}, not of {family!r}: give the other folder.")
        if self.degree != degree:
            raise DeployError(
                f"{folder} was exported for {self.degree} rank(s) and runs on {degree}: start it with "
                f"`python -m paddle.distributed.launch --nproc_per_node {self.degree} ...`, or export for {degree}."
            )

    def files(self, folder: Path, part: str, rank: int) -> list[Path]:
        """What `rank` needs for `part`.

        Raises:
            DeployError: a file is missing.
        """
        own = graph_name(part, rank, self.degree)
        graphs = re.compile(rf"({'|'.join(PARTS)})(-\d+-of-\d+)?\.(json|pdiparams)")
        names = [name for name in self.checksums if Path(name).stem == own or not graphs.fullmatch(name)]
        for path in (folder / name for name in names):
            if not path.is_file():
                raise DeployError(f"{path} is missing from the export: copy the whole folder, or export again.")
        return [folder / name for name in names]

    def verify(self, files: list[Path], read: Callable[[int], None]) -> None:
        """Compare files of the export with their checksums; `read` gets how many bytes more were read.

        Raises:
            DeployError: one is not what was exported.
        """
        for path, found in zip(files, checksums(files, read), strict=True):
            if found != self.checksums[path.name]:
                raise DeployError(
                    f"{path} is not what was exported (its checksum differs): copy it anew, or export again."
                )


def compiled_operations(folder: Path) -> list[str]:
    """Names of this package's compiled operations that the graphs in a folder call."""
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*.json") if path.name.startswith(PARTS))
    return sorted({name for text in texts for name in re.findall(r"(qwenvl_\w+?)_?\"", text)})


def checksums(paths: Iterable[Path], read: Callable[[int], None] = lambda size: None) -> list[str]:
    """SHA-256 of each file; `read` gets how many bytes more were read, on several threads."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(_checksum, read), paths))


def _checksum(read: Callable[[int], None], path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            read(len(block))
    return digest.hexdigest()
