from .auto import *  # noqa: F403
from .configuration_utils import PretrainedConfig
from .model_utils import PretrainedModel

__all__ = ["PretrainedConfig", "PretrainedModel"]
