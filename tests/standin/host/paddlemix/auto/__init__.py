from .configuration import AutoConfigMIX
from .modeling import AutoModelMIX
from .processing import AutoProcessorMIX
from .tokenizer import AutoTokenizerMIX

__all__ = ["AutoConfigMIX", "AutoModelMIX", "AutoProcessorMIX", "AutoTokenizerMIX"]
