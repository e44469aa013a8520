"""What both families' tokenizers and processors do for their hosts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers.image_processing_utils import BatchFeature

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.pretrained import SIZES

_LOCAL = ("name_or_path", "chat_template_file", "from_slow")


def tensors(data: dict, kind: str | None) -> BatchFeature:
    """Arrays as `kind`: "pd" for Paddle, "np" for NumPy, None for what they are; floats are float32, and `SIZES` stay lists.

    Raises:
        ConfigurationError: any other kind.
    """
    if kind not in (None, "np", "pd"):
        raise ConfigurationError(f"return_tensors is {kind!r}: it must be 'pd', 'np' or None.")
    if kind is None:
        return BatchFeature(data)
    make = paddle.to_tensor if kind == "pd" else np.asarray
    return BatchFeature({name: value if name in SIZES else make(_array(value)) for name, value in data.items()})


def _array(value) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


class PortableTokenizer:
    """Base of tokenizers whose saved files hold no path of the machine they were saved on; put before the host's class.

    Attributes:
        saved_class: the name to save the class under.
    """

    saved_class: str

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As the host's."""
        files = super().save_pretrained(save_directory, *args, **kwargs)
        path = Path(save_directory, self.tokenizer_config_file)
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: value for name, value in fields.items() if name not in _LOCAL}
        fields["tokenizer_class"] = self.saved_class
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(fields, ensure_ascii=False, indent=2), encoding="utf-8")
        temporary.rename(path)
        return files
