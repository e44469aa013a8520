"""A conversation that takes lines: questions, and commands that begin with a slash."""

from __future__ import annotations

import os

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.commands.drawing import draw_answer
from paddlemix_qwenvl.commands.progress import prompt_bar
from paddlemix_qwenvl.engine.grammar import Grammar
from paddlemix_qwenvl.engine.session import Answer, Assistant
from paddlemix_qwenvl.errors import ConfigurationError, ContextError
from paddlemix_qwenvl.media import load_image, load_video
from paddlemix_qwenvl.models.conversations import question_about
from paddlemix_qwenvl.text import repair

COMMANDS = {
    "image": ("PATH_OR_URL", "show a picture with the next question"),
    "video": ("PATH_OR_URL", "show a video with the next question"),
    "system": ("[TEXT]", "what the model is told first; without a text its own words"),
    "draw": ("FILE", "draw the boxes of the last answer on its picture, into a file"),
    "clear": ("", "forget what was said and shown"),
    "help": ("", "this list"),
    "exit": ("", "end the chat, as Ctrl-D does; Ctrl-C ends an answer"),
}
"""Name -> what it takes, in brackets what may be left out, and what it does."""

ENDS = {"cancelled": "(stopped)", "length": "(cut off: by --max_new_tokens, or because the context is full)"}
"""What is said where an answer did not end by itself."""


class Conversation:
    """What was said and shown so far, and what will be shown with the next question.

    Args:
        answering, showing: how answers are made, and pictures and videos resized and sampled.
        as_json: print answers as lines of JSON, not while they are generated.

    Raises:
        ConfigurationError, GenerationError: a schema that is none, or cannot be followed.
    """

    def __init__(self, assistant: Assistant, answering: options.Answering, showing: options.Showing, as_json: bool):
        self._assistant, self._as_json = assistant, as_json
        self._settings = answering.settings() | showing.resizing()
        schema = self._settings.pop("schema")
        if schema is not None:  # compiled once for all answers
            vocabulary = assistant.vocabulary(assistant.settings({}))
            self._settings["grammar"] = Grammar.json_schema(schema, vocabulary)
        self._sampling = showing.sampling()
        self._system = answering.beginning()
        self.clear()

    def take(self, line: str) -> None:
        """A question, or a command.

        Raises:
            QwenVLError, OSError: it cannot be done; the conversation is as it was, but what was to be shown is not any more.
        """
        line = repair(line).strip()
        if not line.startswith("/"):
            return self._ask(line) if line else None
        name, _, given = line[1:].partition(" ")
        if name not in COMMANDS:
            raise ConfigurationError(f"there is no /{name}: type /help for what there is.")
        wanted, given = COMMANDS[name][0], given.strip()
        if bool(given) != bool(wanted) and not wanted.startswith("["):
            raise ConfigurationError(f"/{name} takes {wanted or 'nothing more'}: type /{name} {wanted}".rstrip() + ".")
        try:
            getattr(self, name)(*[given] if wanted else [])
        except KeyboardInterrupt:  # while something is downloaded, say
            terminal.say("(stopped)")

    def image(self, path: str) -> None:
        """Show a picture with the next question. It is read here, once."""
        image = load_image(_path(path))
        self._images.append(image)
        terminal.say(f"(picture of {image.width} x {image.height} pixels)")

    def video(self, path: str) -> None:
        """Show a video with the next question. It is read here, once."""
        video = load_video(_path(path), self._sampling)
        self._videos.append(video)
        terminal.say(f"(video, {len(video)} frames up to {video.timestamps[-1]:.1f} s)")

    def system(self, text: str) -> None:
        """What the model is told first."""
        self._system = [{"role": "system", "content": text}] if text else []

    def draw(self, path: str) -> None:
        """Draw the last answer on the pictures that were shown last."""
        if self._answer is None:
            raise ConfigurationError("there is no answer to draw: ask for the places of things first.")
        for line in draw_answer(self._answer, self._shown, _path(path)):
            terminal.say(line)

    def clear(self) -> None:
        """Forget what was said and shown."""
        self._messages: list[dict] = []
        self._images, self._videos, self._shown = [], [], []
        self._answer: Answer | None = None

    def help(self) -> None:
        """The list of commands."""
        for name, (wanted, meaning) in COMMANDS.items():
            terminal.say(f"{f'/{name} {wanted}':20} {meaning}")

    def _ask(self, question: str) -> None:
        """The next turn, which counts once there is an answer."""
        images, videos, self._images, self._videos = self._images, self._videos, [], []
        turns = [*self._messages, question_about(question, images, videos)]
        try:
            answer = self._answer_to([*self._system, *turns])
        except ContextError as error:
            raise ContextError(f"{error} /clear forgets what was said and shown.") from error
        if self._as_json:
            terminal.print_json(answer.as_dict())
        else:
            terminal.stream("\n")
        if answer.reason in ENDS:
            terminal.say(ENDS[answer.reason])
        if not answer.text:
            return
        self._messages = [*turns, {"role": "assistant", "content": answer.text}]
        self._answer, self._shown = answer, images or self._shown

    def _answer_to(self, messages: list[dict]) -> Answer:
        on_text = None if self._as_json else terminal.stream
        with terminal.interruptible() as stopped, prompt_bar(self._assistant.processor, messages) as on_progress:
            return self._assistant.answer(
                messages, on_text=on_text, on_progress=on_progress, stopped=stopped, **self._settings
            )


def _path(given: str) -> str:
    """As a shell has it: without the quotes around it, and `~` for the user's folder."""
    return os.path.expanduser(given.strip("'\""))
