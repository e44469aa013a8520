"""A source whose cache is a plain folder for each model."""

from __future__ import annotations

import contextlib
import os
import shutil
from functools import cached_property
from pathlib import Path, PurePosixPath

from paddlemix_qwenvl.errors import ConfigurationError, DownloadError
from paddlemix_qwenvl.hub.cache import CONFIG, WEIGHTS, has_files, is_complete


class FolderSource:
    """A model at a source.

    Args:
        name: the model's.
        revision: a branch, tag or commit; None for the newest of the main branch.
        cache_dir: in place of the source's own cache.

    Attributes:
        key: what `source=` calls it.
        title: what a reader calls it.
        variable: of the environment, which points to a mirror.
    """

    key = title = variable = ""
    main: str | None = "master"  # the main branch; None where a model has one revision alone

    def __init__(self, name: str, revision: str | None, cache_dir: str | os.PathLike | None):
        if revision and self.main is None:
            raise ConfigurationError(
                f"revision is {revision!r}, but {self.title} has one revision of a model: leave it out, or take a source with "
                f"several, source='huggingface' or 'modelscope'."
            )
        self.name, self.revision = name, revision
        self.root = Path(cache_dir or self._home()).expanduser()
        self._remotes = {}  # file -> transfer.Remote
        self._revision_checked = False

    @cached_property
    def folder(self) -> Path:
        """Where the model is or will be: of the places it may lie in, the first that is complete, or has something at all."""
        places = self._places()
        return next((place for wanted in (is_complete, has_files) for place in places if wanted(place)), places[0])

    def cached(self, file: str) -> Path | None:
        """The path of a file that is there already."""
        path = self.folder / file
        return path if os.path.isfile(path) else None

    def known_absent(self, file: str) -> bool:
        """Whether the source said before that it does not have the file."""
        return os.path.exists(self.folder / ".no_exist" / file)

    def size(self, file: str) -> int:
        """The bytes that are still to come of a file.

        Raises:
            Absent: the source does not have it.
            OSError: it cannot be reached.
        """
        from paddlemix_qwenvl.hub import transfer

        remote = self._remote(file)
        part = transfer.incomplete(remote, self.folder / file)
        return (remote.size or 0) - (part.stat().st_size if part.exists() else 0)

    def download(self, file: str, force: bool = False) -> Path:
        """The path of a file that was downloaded now.

        Args:
            force: although it is there.

        Raises:
            Absent: the source does not have it.
            DownloadError: it cannot be written, or the folder holds another revision than the source has now.
            OSError: the source cannot be reached.
        """
        from paddlemix_qwenvl.hub import transfer

        if not force:
            self._check_revision(file)
        try:
            remote = self._remote(file)
        except transfer.Absent:
            self._remember_absent(file)
            raise
        if force and (file == _config_beside(file) or file.endswith(".index.json")):
            self._discard_beside(file)
        lock = self.root / ".locks" / self.name / f"{file}.lock"
        return transfer.download(remote, self.folder / file, lock, force)

    def differs(self, file: str) -> bool:
        """Whether a file in the cache is another than the source has now, by size and digest; errors as of `download`."""
        self._check_revision(file)
        return not self._matches(file)

    def discard(self, file: str) -> None:
        """Take a file of another revision out of the cache."""
        from paddlemix_qwenvl.hub import transfer

        with transfer.writing(self.folder):
            (self.folder / file).unlink(missing_ok=True)

    def _discard_beside(self, file: str) -> None:
        """Before a config or an index is replaced by another: what it is of goes, all files of a config, the weights of an index,
        so that a download which is interrupted leaves no mixture.
        """
        if not self.cached(file) or self._matches(file):
            return
        path = self.folder / file
        for other in path.parent.iterdir():
            if other.is_file() and other != path and (path.name == CONFIG or other.suffix in WEIGHTS):
                self.discard(str(other.relative_to(self.folder)))
        if path.name == CONFIG:
            shutil.rmtree(path.parent / ".no_exist", ignore_errors=True)

    def _matches(self, file: str) -> bool:
        from paddlemix_qwenvl.hub import transfer

        try:
            return self._remote(file).matches(self.folder / file)
        except transfer.Absent:
            return True

    def _check_revision(self, file: str) -> None:
        """No new file may join those of an older revision: the config beside it tells."""
        config = _config_beside(file)
        if not self._revision_checked and self.cached(config) and not self._matches(config):
            raise DownloadError(
                f"{self.folder} holds {config} of another revision than {self.title} has now, and not all files: give "
                f"force_download=True to fetch the model anew, or that folder's path to take it as it is."
            )
        self._revision_checked = True

    def _remember_absent(self, file: str) -> None:
        if self.cached(_config_beside(file)):
            with contextlib.suppress(OSError):
                marker = self.folder / ".no_exist" / file
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.touch()

    def _remote(self, file: str):
        if file not in self._remotes:
            self._remotes[file] = self._look_up(file)
        return self._remotes[file]


def _config_beside(file: str) -> str:
    return str(PurePosixPath(file).with_name(CONFIG))
