"""Types of /v1/completions, /tokenize and /detokenize. Source: as `protocol`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from typing_extensions import NotRequired, TypedDict

from paddlemix_qwenvl.server.protocol import Given, ModelName, Never, Nothing, Sampling, TokenId, Usage
from paddlemix_qwenvl.server.protocol_chat import Conversation, FinishReason

MOST_PROMPTS, MOST_IDS = 64, 1 << 20
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=MOST_IDS)]
Text = Annotated[str, Field(min_length=1)]
Prompts = (
    Text
    | Ids
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]
    | Annotated[list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)]
)


class CompletionRequest(Sampling):
    """Texts, or rows of token ids, to go on with. Special tokens are read in ids alone."""

    prompt: Prompts
    max_tokens: Annotated[int | None, Field(ge=1, le=1 << 20)] = 16
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: Never
    suffix: Nothing
    best_of: Annotated[Literal[1] | None, Field(description="Without effect here.")] = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each of them."""
        is_one = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return [self.prompt] if is_one else self.prompt


class CompletionLogprobs(TypedDict):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(TypedDict):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: NotRequired[int | str | None]


class Completion(TypedDict):
    """What follows, whole or a piece of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class TokenizeText(Given):
    """A text, in which special tokens are plain words."""

    model: ModelName | None = None
    prompt: str
    add_special_tokens: Annotated[bool, Field(description="Without effect: these models add none.")] = True
    return_token_strs: bool | None = False


class TokenizeChat(Conversation):
    """A conversation as the model is given it."""

    model: ModelName | None = None
    add_special_tokens: Annotated[bool, Field(description="Without effect: these models add none.")] = False
    add_generation_prompt: Annotated[Literal[True], Field(description="Without effect: it is added.")] = True
    return_token_strs: bool | None = False


def _kind(given: Any) -> str:
    return "conversation" if isinstance(given, dict) and "messages" in given else "words"


TokenizeRequest = Annotated[
    Annotated[TokenizeChat, Tag("conversation")] | Annotated[TokenizeText, Tag("words")], Discriminator(_kind)
]


class Tokenized(TypedDict):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(Given):
    """Token ids, special ones too."""

    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Field(max_length=MOST_IDS)]


class Detokenized(TypedDict):
    prompt: str
