"""The Hugging Face Hub, by `huggingface_hub` and in its cache; 0.30 to 2.x have the functions that are used here."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ABSENT = {  # errors of the library, the special ones first -> what they mean
    "GatedRepoError": "it gives this model only to those whom its owner lets: ask there, and set HF_TOKEN",
    "RepositoryNotFoundError": "it does not have the model, or it is private and HF_TOKEN is not set",
    "RevisionNotFoundError": "it does not have that revision of the model; force_download=True takes what it has now",
    "EntryNotFoundError": "it does not have the file",
}


class HuggingFace:
    """A model at the Hub; arguments, attributes and methods as `FolderSource` has them.

    All files come from one commit: the one in the cache that the revision names there, or else the one it names at the Hub when the
    first file is asked for.
    """

    key, title, variable = "huggingface", "Hugging Face Hub", "HF_ENDPOINT"
    main = "main"

    def __init__(self, name: str, revision: str | None, cache_dir: str | os.PathLike | None):
        from huggingface_hub import constants

        self.name, self.revision = name, revision
        self.root = Path(cache_dir or os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE).expanduser()
        self.endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
        self._fetched = None  # the commit of what was downloaded by this object

    @property
    def folder(self) -> Path:
        """Where the files of the commit lie."""
        return self._model / "snapshots" / self._commit

    def cached(self, file: str) -> Path | None:
        """The path of a file that is there already."""
        path = self.folder / file
        return path if os.path.isfile(path) else None

    def known_absent(self, file: str) -> bool:
        """Whether the Hub said before that the commit does not have the file."""
        return os.path.exists(self._model / ".no_exist" / self._commit / file)

    def size(self, file: str) -> int:
        """The bytes that are still to come of a file.

        Raises:
            Absent: the Hub does not have it.
            OSError: it cannot be reached.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        place = {"revision": self._commit, "endpoint": self.endpoint}
        about = self._translated(lambda: get_hf_file_metadata(hf_hub_url(self.name, file, **place)))
        parts = (self._model / "blobs").glob(f"{about.etag}*.incomplete")
        return (about.size or 0) - max((part.stat().st_size for part in parts), default=0)

    def download(self, file: str, force: bool = False) -> Path:
        """The path of a file that was downloaded now.

        Raises:
            Absent: the Hub does not have it.
            DownloadError: it cannot be written.
            OSError: the Hub cannot be reached, or what it sent is not what it has.
        """
        from huggingface_hub import hf_hub_download

        from paddlemix_qwenvl.hub.transfer import persist, writing

        revision = (self._fetched or self.revision) if force else self._commit
        options = {"revision": revision, "cache_dir": self.root, "force_download": force, "endpoint": self.endpoint}
        paths = []
        with writing(self.root):
            persist(
                lambda: paths.append(self._translated(lambda: hf_hub_download(self.name, file, **options))) or True,
                lambda: sum(part.stat().st_size for part in self._model.glob("blobs/*.incomplete")),
            )
        path = Path(paths[0])
        self._fetched = Path(os.path.relpath(path, self._model / "snapshots")).parts[0]
        self._check(path)
        return path

    def differs(self, file: str) -> bool:
        """False: a file of the cache is of its commit."""
        return False

    def discard(self, file: str) -> None:
        """Nothing: files of another commit lie elsewhere."""

    @property
    def _model(self) -> Path:
        return self.root / f"models--{self.name.replace('/', '--')}"

    @property
    def _commit(self) -> str:
        """The commit in the cache that the revision names, else the revision."""
        if self._fetched:
            return self._fetched
        revision = self.revision or self.main
        try:
            return (self._model / "refs" / revision).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return revision

    def _check(self, path: Path) -> None:
        """Large files lie under their SHA-256, which `huggingface_hub` compares with nothing."""
        from paddlemix_qwenvl.hub.transfer import digest

        blob = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", blob.name) and digest(blob, "sha256") != blob.name:
            path.unlink()
            blob.unlink()
            raise OSError(
                f"{path.name} came damaged: its SHA-256 should be {blob.name}; it was thrown away, so try again"
            )

    @staticmethod
    def _translated(call):
        """`call()`, whose errors, which differ from version to version, become those of `transfer`, or OSError."""
        from huggingface_hub import errors

        from paddlemix_qwenvl.hub.transfer import Absent, Interrupted, Unreachable

        try:
            return call()
        except errors.LocalEntryNotFoundError as error:
            cause = error.__cause__ or error
            raise Unreachable(f"{type(cause).__name__}: {cause}") from error
        except Exception as error:
            absent = next((text for name, text in _ABSENT.items() if isinstance(error, getattr(errors, name))), None)
            if absent:
                raise Absent(absent) from error
            if isinstance(error, OSError) and error.errno is not None:  # the disk's
                raise
            final = isinstance(error, errors.HfHubHTTPError | ValueError)
            raise (OSError if final else Interrupted)(f"{type(error).__name__}: {error}") from error
