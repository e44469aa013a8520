"""What requests and answers of all routes have in common, as pydantic types: FastAPI makes the API's description of them.

What a request holds that nobody knows is refused. Fields of OpenAI's that have no meaning here are taken at the values that ask
for nothing. Source of names and ranges: OpenAI's API reference, and vLLM 0.11's `entrypoints/openai/protocol.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from paddlemix_qwenvl.media.sampling import MAX_FRAMES

MOST_ANSWERS = 16
MOST_STOPS = 16
MOST_TOKENS = 1 << 20
MOST_PIXELS = 1 << 24  # of a picture as the model sees it
MOST_VIDEO_PIXELS = 1 << 28  # of all frames of a video, likewise
LARGEST_SIDE = 1 << 13  # pixels, that a picture is stretched to
_LARGEST = 2**31 - 1
MARK = "x-of-model"
"""In a description, of what `description` completes: a name, a token's id, or ids as the names of an object."""
MODEL_NAME, TOKEN_ID, TOKEN_NAMES = "name", "token", "tokens"


class Given(BaseModel):
    """Part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _only(wanted: Any) -> Any:
    """A value that asks for nothing, and null."""

    def check(value):
        if value != wanted:
            raise ValueError(f"this server knows {wanted!r} alone: leave it out")
        return value

    kind = Annotated[type(wanted), AfterValidator(check), Field(json_schema_extra={"enum": [wanted]})]
    return Annotated[kind | None, Field(default=None, description="Without effect here.")]


Never, Nothing = _only(False), Annotated[None, Field(default=None, description="Not to be had here.")]
Ignored = Annotated[str | None, Field(default=None, max_length=4096, description="Without effect here.")]
ModelName = Annotated[str, Field(max_length=1024, json_schema_extra={MARK: MODEL_NAME})]
TokenId = Annotated[int, Field(ge=0, le=_LARGEST, json_schema_extra={MARK: TOKEN_ID})]
Pixels = Annotated[int | None, Field(default=None, ge=1, le=MOST_PIXELS)]
Side = Annotated[int | None, Field(default=None, ge=1, le=LARGEST_SIDE)]
Frames = Annotated[int | None, Field(default=None, ge=1, le=MAX_FRAMES)]
Seconds = Annotated[float | None, Field(default=None, ge=0, le=1e9)]


class ImageOptions(Given):
    """How pictures and frames are resized; where left out, as the model's own files say."""

    min_pixels: Pixels
    max_pixels: Pixels
    resized_height: Side
    resized_width: Side


class VideoOptions(ImageOptions):
    """How videos are resized and sampled besides."""

    total_pixels: Annotated[int | None, Field(default=None, ge=1, le=MOST_VIDEO_PIXELS)]
    fps: Annotated[float | None, Field(default=None, gt=0, le=1000)]
    nframes: Frames
    min_frames: Frames
    max_frames: Frames
    video_start: Seconds
    video_end: Seconds


class StructuredOutputs(Given):
    """What an answer looks like; one of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    json_schema: Annotated[dict[str, Any] | str | None, Field(default=None, alias="json")]
    regex: Annotated[str | None, Field(default=None, min_length=1)]
    choice: Annotated[list[Annotated[str, Field(min_length=1)]] | None, Field(default=None, min_length=1)]
    grammar: Annotated[str | None, Field(default=None, min_length=1, description="In Lark's form.")]


class StreamOptions(Given):
    """What a stream tells besides."""

    include_usage: bool = False
    continuous_usage_stats: Never
    include_obfuscation: Never


class Sampling(Given):
    """How an answer is drawn, and what ends it. What is left out is as the model's generation_config.json says."""

    model: Annotated[ModelName | None, Field(default=None, description="One of those that are served.")]
    max_tokens: Annotated[int | None, Field(default=None, ge=1, le=MOST_TOKENS)]
    temperature: Annotated[float | None, Field(default=None, ge=0, le=2)]
    top_p: Annotated[float | None, Field(default=None, gt=0, le=1)]
    top_k: Annotated[int | None, Field(default=None, ge=-1, le=_LARGEST, description="0 and -1 for no limit.")]
    min_p: Annotated[float | None, Field(default=None, ge=0, le=1)]
    n: Annotated[int | None, Field(default=None, ge=1, le=MOST_ANSWERS)]
    seed: int | None = None
    stop: Annotated[
        Annotated[str, Field(min_length=1, max_length=1024)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=MOST_STOPS)]
        | None,
        Field(default=None),
    ]
    stop_token_ids: Annotated[list[TokenId] | None, Field(default=None, max_length=64)]
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: Annotated[int | None, Field(default=None, ge=0, le=MOST_TOKENS)]
    presence_penalty: Annotated[float | None, Field(default=None, ge=-2, le=2)]
    frequency_penalty: Annotated[float | None, Field(default=None, ge=-2, le=2)]
    repetition_penalty: Annotated[float | None, Field(default=None, ge=0.001, le=1000)]
    logit_bias: Annotated[
        Annotated[
            dict[Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=1024, json_schema_extra={"additionalProperties": False, MARK: TOKEN_NAMES}),
        ]
        | None,
        Field(default=None),
    ]
    skip_special_tokens: bool = True
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    priority: Annotated[int, Field(ge=-_LARGEST, le=_LARGEST, description="A smaller number goes first.")] = 0
    cache_salt: Annotated[
        str | None,
        Field(default=None, max_length=1024, description="Prompts share what is remembered within one alone."),
    ]
    user: Ignored

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class PromptTokensDetails(TypedDict):
    """Of the prompt's tokens, those that were known from before, and those of pictures and videos."""

    cached_tokens: int
    image_tokens: int


class Usage(TypedDict):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ErrorText(TypedDict):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | int | None


class ErrorAnswer(TypedDict):
    """An error in OpenAI's form."""

    error: ErrorText


class Health(TypedDict):
    """How far the server is: `progress` of loading from 0 to 1, sequences that run and wait, and seconds of a step of the
    engine that takes longer than any should, else 0."""

    state: Literal["loading", "ready", "draining", "stuck", "failed"]
    progress: float
    running: int
    waiting: int
    stuck_seconds: float


class ModelCard(TypedDict):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: NotRequired[int]


class ModelList(TypedDict):
    """All of them."""

    object: Literal["list"]
    data: list[ModelCard]
