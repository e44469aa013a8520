from .auto import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForConditionalGeneration,
    AutoProcessor,
    AutoTokenizer,
)
from .configuration_utils import PretrainedConfig
from .model_utils import PretrainedModel

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForConditionalGeneration",
    "AutoProcessor",
    "AutoTokenizer",
    "PretrainedConfig",
    "PretrainedModel",
]
