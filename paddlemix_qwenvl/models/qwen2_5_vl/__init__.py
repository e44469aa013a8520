"""Qwen2.5-VL (arXiv:2502.13923)."""

from paddlemix_qwenvl.models.family import Family, names_class, usual_classes
from paddlemix_qwenvl.models.qwen2_5_vl.sizes import SIZES

_CLASSES = usual_classes("Qwen2_5_VL", "Qwen2_5_VLForConditionalGeneration")
_NAMES = [name for _, name in _CLASSES.values()]

FAMILY = Family(
    name="qwen2_5_vl",
    title="Qwen2.5-VL",
    model_type="qwen2_5_vl",
    classes=_CLASSES,
    claims=lambda content: content.get("model_type") == "qwen2_5_vl" or names_class(content, *_NAMES),
    hub_names=("Qwen/Qwen2.5-VL-",),
    sizes=SIZES,
)
