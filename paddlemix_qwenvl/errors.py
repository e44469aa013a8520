"""The exceptions this package raises. Each message says what was given, what was expected and what to do."""


class QwenVLError(Exception):
    """Base of every exception raised on purpose by this package."""


class ConfigurationError(QwenVLError, ValueError):
    """A model configuration or an argument that no model of this package can work with."""


class CheckpointError(QwenVLError, ValueError):
    """A weight file or index that is damaged, incomplete or does not fit the model."""


class DownloadError(QwenVLError, OSError):
    """A file that no source had, or whose source could not be reached."""


class MediaError(QwenVLError, ValueError):
    """An image or a video that cannot be fetched, decoded or resized."""


class PromptError(QwenVLError, ValueError):
    """Messages or text that do not fit the media given, or the model's context."""


class ContextError(PromptError):
    """A prompt that is longer than the model's context or the cache."""


class GenerationError(QwenVLError, ValueError):
    """Generation settings that cannot be carried out."""


class GroundingError(QwenVLError, ValueError):
    """Arguments from which no answer can be mapped onto a picture."""


class ParallelError(QwenVLError, RuntimeError):
    """A tensor-parallel group that does not fit the model or the machine."""


class OpsError(QwenVLError, RuntimeError):
    """A compiled operation that is needed but missing, or that was built for something else."""


class DeployError(QwenVLError, RuntimeError):
    """An export that failed, or an export folder that cannot be served."""


class MissingFontWarning(UserWarning):
    """Labels that no font on this system can write."""
