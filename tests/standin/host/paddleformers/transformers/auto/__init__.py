from .configuration import AutoConfig
from .image_processing import AutoImageProcessor
from .modeling import AutoModel, AutoModelForCausalLM, AutoModelForConditionalGeneration
from .processing import AutoProcessor
from .tokenizer import AutoTokenizer

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForConditionalGeneration",
    "AutoProcessor",
    "AutoTokenizer",
]
