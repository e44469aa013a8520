"""From a folder or a name to its config.json, and to the family that it is of."""

from __future__ import annotations

import os
from pathlib import Path

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import read_object
from paddlemix_qwenvl.models import unsupported
from paddlemix_qwenvl.models.family import Family, family_of, read_identity, titles


def find_family(name: str | os.PathLike, **source) -> Family:
    """The family of a model; arguments as `config_file`.

    Raises:
        ConfigurationError: a model of another kind, or none.
        DownloadError: a name that cannot be had.
    """
    path = config_file(name, **source)
    family = family_of(read_identity(path))
    if family is None:
        unsupported.refuse_other_family(read_object(path), "", path)
        raise ConfigurationError(f"{path} is of no family that this package has: it loads {titles()}.")
    return family


def config_file(name: str | os.PathLike, subfolder: str | None = "", **source) -> Path:
    """The `config.json` of a model: `name` itself if it is a file, in a folder, or fetched; `source` as in `hub.fetch`.

    Raises:
        ConfigurationError: a folder or a model that is none, with what it is.
        DownloadError: a name whose `config.json` no source has, or that cannot be reached.
    """
    found = Path(hub.locate(str(name)))
    if found.is_file():
        return found
    if found.is_dir():
        path = found / (subfolder or "") / hub.CONFIG
    else:
        path = Path(hub.fetch(str(found), (hub.CONFIG, hub.ADAPTER_CONFIG), subfolder, **source))
    unsupported.refuse_adapter(path.parent)
    if not path.is_file():
        inside = ", ".join(sorted(each.name for each in path.parent.glob("*"))[:10])
        raise ConfigurationError(
            f"{path.parent} holds no {hub.CONFIG}, found {inside or 'nothing'}: give a model's folder."
        )
    return path
