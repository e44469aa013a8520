"""What a name or a folder holds: a model, or an export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlemix_qwenvl.errors import ConfigurationError

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.session import Assistant


def load_any(model_path: str, model: dict[str, Any], **how: Any) -> Assistant:
    """A model, or an export, which takes none of the options `model`.

    Args:
        how: of both, as `Assistant.of` and `load_export` take it.

    Raises:
        ConfigurationError: an export with options of a model.
        QwenVLError: what cannot be loaded.
    """
    from paddlemix_qwenvl.engine.session import Assistant
    from paddlemix_qwenvl.static.loading import load_export
    from paddlemix_qwenvl.static.manifest import NAME

    if not (Path(model_path) / NAME).is_file():
        return Assistant.load(model_path, **model, **how)
    if model:
        raise ConfigurationError(f"{model_path} is an export, which is as it was exported: leave out --{min(model)}.")
    return load_export(model_path, **how)
