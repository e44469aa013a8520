"""Qwen2-VL (arXiv:2409.12191)."""

from paddlemix_qwenvl.models.family import Family, names_class, usual_classes
from paddlemix_qwenvl.models.qwen2_vl.sizes import SIZES

_CLASSES = usual_classes("Qwen2VL", "Qwen2VLForConditionalGeneration")
# The image processor's name tells nothing: folders of Qwen2.5-VL have it, too.
_NAMES = [name for kind, (_, name) in _CLASSES.items() if kind != "image_processor"]

FAMILY = Family(
    name="qwen2_vl",
    title="Qwen2-VL",
    model_type="qwen2_vl",
    classes=_CLASSES,
    claims=lambda content: content.get("model_type") == "qwen2_vl" or names_class(content, *_NAMES),
    hub_names=("Qwen/Qwen2-VL-",),
    sizes=SIZES,
)
