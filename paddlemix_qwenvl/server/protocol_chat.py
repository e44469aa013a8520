"""Types of /v1/chat/completions. Source: as `protocol`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from paddlemix_qwenvl.server.protocol import Given, Ignored, ImageOptions, Never, Nothing, Sampling, Usage, VideoOptions

Name = Annotated[str, Field(pattern="^[a-zA-Z0-9_.-]{1,64}$")]
MOST_MESSAGES, MOST_PARTS, MOST_TOOLS = 1024, 1024, 128


class TextPart(Given):
    type: Literal["text"]
    text: str


class RefusalPart(Given):
    type: Literal["refusal"]
    refusal: str


def _address(kind: str, formats: str) -> Any:
    told = f"A data URI of {formats}, or where the server allows it an address or a file."
    return Annotated[str, Field(description=told, json_schema_extra={"format": f"{kind}-address"})]


PictureAddress = _address("picture", "a JPEG, PNG, WebP, GIF or BMP")
VideoAddress = _address("video", "an MP4, MOV, WebM, Matroska or GIF")


class VideoUrl(Given):
    url: VideoAddress


class ImageUrl(Given):
    url: PictureAddress
    detail: Annotated[Literal["auto", "low", "high"] | None, Field(description="low: 512 x 512 pixels at most.")] = None


class ImagePart(ImageOptions):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl | PictureAddress


class VideoPart(VideoOptions):
    """A video."""

    type: Literal["video_url"]
    video_url: VideoUrl | VideoAddress


UserPart = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Words = Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)]


class FunctionCall(Given):
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    arguments: str


class ToolCall(Given):
    id: Annotated[str | None, Field(max_length=1024)] = None
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


Told = Annotated[list[Any] | None, Field(default=None, description="Of an answer that is sent back; without effect.")]


class SystemMessage(Given):
    role: Literal["system", "developer"]
    content: str | Words
    name: Ignored


class UserMessage(Given):
    role: Literal["user"]
    content: str | Annotated[list[UserPart], Field(min_length=1, max_length=MOST_PARTS)]
    name: Ignored


class AssistantMessage(Given):
    """With content, with calls, or with both."""

    role: Literal["assistant"]
    content: str | Annotated[list[AssistantPart], Field(max_length=MOST_PARTS)] | None = None
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=MOST_TOOLS)] = None
    refusal: str | None = None
    name: Ignored
    audio: Nothing
    function_call: Nothing
    annotations: Told
    grounding: Told
    pictures: Told


class ToolMessage(Given):
    role: Literal["tool"]
    content: str | Words
    tool_call_id: Annotated[str, Field(max_length=1024)]
    name: Ignored


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]


class Function(Given):
    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, Field(description="A JSON schema.")] = None
    strict: bool | None = None


class Tool(Given):
    type: Literal["function"]
    function: Function


class FunctionName(Given):
    name: Name


class NamedTool(Given):
    type: Literal["function"]
    function: FunctionName


class TextFormat(Given):
    type: Literal["text"]


class JsonObjectFormat(Given):
    type: Literal["json_object"]


class JsonSchema(Given):
    model_config = ConfigDict(populate_by_name=True)

    name: Annotated[str, Field(max_length=1024)]
    description: str | None = None
    content: Annotated[dict[str, Any], Field(alias="schema", default_factory=dict)]
    strict: bool | None = None


class JsonSchemaFormat(Given):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class ShapesFormat(Given):
    """A list of boxes or points that cannot leave the pictures, as `grounding.schema` writes it."""

    type: Literal["boxes", "points"]
    labels: Annotated[list[Annotated[str, Field(min_length=1)]] | None, Field(min_length=1, max_length=1024)] = None
    max_items: Annotated[int | None, Field(ge=1, le=100_000)] = None


class ActionsFormat(Given):
    """A list of actions on the last picture, a screen, as `grounding.schema` writes it."""

    type: Literal["actions"]
    tool: Literal["computer_use", "mobile_use"] | None = None
    max_items: Annotated[int | None, Field(ge=1, le=100_000)] = None


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | ShapesFormat | ActionsFormat,
    Field(discriminator="type"),
]


class TemplateOptions(Given):
    """What the chat template is told."""

    add_vision_id: Annotated[bool, Field(description="Number the pictures and videos.")] = False


class Conversation(Given):
    """Messages, and how they are shown to the model."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    tools: Annotated[list[Tool] | None, Field(max_length=MOST_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    mm_processor_kwargs: VideoOptions | None = None
    chat_template_kwargs: TemplateOptions | None = None


class ChatRequest(Sampling, Conversation):
    """A conversation to go on with."""

    max_completion_tokens: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    parallel_tool_calls: bool | None = True
    response_format: ResponseFormat | None = None
    grounding: Annotated[bool, Field(description="Tell what the answer points at, in the given pictures' pixels.")] = (
        False
    )
    metadata: Annotated[dict[str, Any] | None, Field(description="Without effect here.")] = None
    store: Never
    service_tier: Annotated[Literal["auto", "default"] | None, Field(description="Without effect here.")] = None
    modalities: Annotated[list[Literal["text"]] | None, Field(description="Without effect here.")] = None
    safety_identifier: Ignored
    prompt_cache_key: Ignored
    audio: Nothing
    prediction: Nothing
    web_search_options: Nothing
    functions: Nothing
    function_call: Nothing
    verbosity: Annotated[Literal["medium"] | None, Field(description="Without effect here.")] = None
    reasoning_effort: Annotated[Literal["none"] | None, Field(description="Without effect here.")] = None


class TopLogprob(TypedDict):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(TypedDict):
    content: list[TokenLogprob]


class CalledFunction(TypedDict):
    name: NotRequired[str]
    arguments: str


class CalledTool(TypedDict):
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    index: NotRequired[int]
    function: CalledFunction


class GroundingItem(TypedDict):
    """What an answer points at, in pixels of the picture as it was given, and what it says is written there."""

    kind: Literal["box", "point", "polygon"]
    label: str
    coords: list[float]
    image: int
    text: NotRequired[str]


class ShownPicture(TypedDict):
    """(width, height) of a picture as it was given, and of what coordinates in the answer's text count on."""

    size: list[int]
    grid: list[int]


class AnswerMessage(TypedDict):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    refusal: NotRequired[None]
    tool_calls: NotRequired[list[CalledTool]]
    grounding: NotRequired[list[GroundingItem]]
    pictures: NotRequired[list[ShownPicture]]


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    stop_reason: int | str | None


class ChatCompletion(TypedDict):
    """An answer, or several."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChunkChoice(TypedDict):
    index: int
    delta: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: NotRequired[int | str | None]


class ChatChunk(TypedDict):
    """A piece of an answer, in a stream's event."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]
