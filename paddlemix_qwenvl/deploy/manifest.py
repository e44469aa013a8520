"""What an export folder holds, and whether it is still what was exported. Needs neither Paddle nor PaddleNLP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from paddlemix_qwenvl.errors import DeployError

NAME = "manifest.json"
FORMAT = 1


@dataclass
class Manifest:
    """The description of an export.

    Attributes:
        family: "qwen2_5_vl" or "qwen_vl".
        dtype: of weights and KV cache.
        paddle: version of Paddle that wrote the graphs.
        compiled_ops: whether the graphs call this package's compiled operations.
        cache: layers, KV heads and head width of the KV cache.
        tokens: ids the predictor needs ("image", "video", "pad", "eos" (a list), ...).
        vision: numbers of the vision layout (window, merge, ...).
        generation: defaults of generation_config.json.
        checksums: file name -> SHA-256 of its content.
    """

    family: str
    dtype: str
    paddle: str
    compiled_ops: bool
    cache: dict[str, int]
    tokens: dict
    vision: dict
    generation: dict
    context: int
    checksums: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write the manifest of a finished folder, with the checksums of all that is in it."""
        self.checksums = {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.name != NAME}
        temporary = folder / f".{NAME}.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False), encoding="utf-8")
        temporary.rename(folder / NAME)

    @classmethod
    def read(cls, folder: str | Path, family: str | None = None, verify: bool = True) -> Manifest:
        """The manifest of an export.

        Args:
            family: raise if the graphs are of another one.
            verify: compare every file with its checksum, which reads the weights once.

        Raises:
            DeployError: no export, a damaged one, or one of another family or a later format.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / NAME).read_text(encoding="utf-8"))
            manifest = cls(**fields)
        except OSError as error:
            raise DeployError(
                f"{folder} holds no export ({NAME} is missing): make one with `paddlemix-qwenvl export`."
            ) from error
        except (ValueError, TypeError) as error:
            raise DeployError(f"{folder / NAME} cannot be read ({error}): export again with this version.") from error
        if manifest.format != FORMAT:
            raise DeployError(f"{folder} has format {manifest.format}, this version reads {FORMAT}: export again.")
        if family is not None and manifest.family != family:
            raise DeployError(
                f"{folder} is an export of {manifest.family!r}, not of {family!r}: give the other folder."
            )
        for name, expected in manifest.checksums.items():
            path = folder / name
            if not path.is_file():
                raise DeployError(f"{path} is missing from the export: copy the whole folder, or export again.")
            if verify and checksum(path) != expected:
                raise DeployError(
                    f"{path} is not what was exported (its checksum differs): copy it anew, or export again."
                )
        return manifest


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:  # Python 3.10 has no file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
