"""Chat templates in a folder's files: one, or several by name. Needs no Paddle.

Source of which file goes first: transformers 4.57.6 and 5.24.0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.fields import checked, read_object, read_text, wrong
from paddlemix_qwenvl.files import write_text
from paddlemix_qwenvl.models.tokenizer_settings import Templates, TokenizerSettings

TEMPLATE, TEMPLATE_JSON, MORE_TEMPLATES = "chat_template.jinja", "chat_template.json", "additional_chat_templates"
PROCESSOR = "processor_config.json"  # of transformers 4.43 and 4.44 only
FILES = (TEMPLATE, TEMPLATE_JSON, PROCESSOR)
DEFAULT, WITH_TOOLS = "default", "tool_use"

Chosen = str | dict[str, str] | None
"""A template, several by name, or none."""


@dataclass(kw_only=True)
class _TemplateFile:
    chat_template: Templates | None = None


def tokenizer_templates(folder: Path, settings: TokenizerSettings) -> Chosen:
    """The tokenizer's own: those of Jinja files, else of its settings.

    Raises:
        ConfigurationError: a file that cannot be read.
    """
    return _jinja_files(folder) or _by_name(settings.chat_template)


def processor_templates(folder: Path, settings: TokenizerSettings) -> Chosen:
    """The processor's: that of processor_config.json or of chat_template.json, else the tokenizer's own.

    Raises:
        ConfigurationError: a file that cannot be read.
    """
    for path in (folder / PROCESSOR, folder / TEMPLATE_JSON):
        found = checked(_TemplateFile, read_object(path), path).chat_template if path.is_file() else None
        if found is not None:
            return _by_name(found)
    return tokenizer_templates(folder, settings)


def choose_template(templates: Chosen, wanted: str | None = None, tools: list | None = None) -> str | None:
    """The template to render.

    Args:
        wanted: the name of one of several, or a template itself.
        tools: those of the call; where there are any, the template "tool_use" goes before "default".

    Raises:
        PromptError: no template of that name, or several of which none is the default.
    """
    named = templates if isinstance(templates, dict) else {}
    if wanted is None and not named:
        return templates
    name = (WITH_TOOLS if tools is not None and WITH_TOOLS in named else DEFAULT) if wanted is None else wanted
    if isinstance(name, str) and name in named:
        return named[name]
    if isinstance(wanted, str) and "{" in wanted:
        return wanted
    raise PromptError(
        f"chat_template is {wanted!r:.100}: give a template's text"
        + (f", or one of {', '.join(named)}." if named else ".")
    )


def save_templates(templates: str | dict[str, str], folder: Path) -> None:
    """Write the processor's templates in place of those that are there: one as chat_template.json, which every version of
    transformers reads, several as Jinja files."""
    files = {TEMPLATE_JSON: json.dumps({"chat_template": templates}, ensure_ascii=False, indent=2)}
    if isinstance(templates, dict):
        files = {f"{MORE_TEMPLATES}/{name}.jinja": text for name, text in templates.items() if name != DEFAULT}
        files |= {TEMPLATE: templates[DEFAULT]} if DEFAULT in templates else {}
        (folder / MORE_TEMPLATES).mkdir(exist_ok=True)
    for path in (folder / TEMPLATE, folder / TEMPLATE_JSON, *(folder / MORE_TEMPLATES).glob("*.jinja")):
        path.unlink(missing_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)


def as_saved(templates: Chosen) -> str | list[dict[str, str]] | None:
    """Templates as tokenizer_config.json holds them."""
    if not isinstance(templates, dict):
        return templates
    return [{"name": name, "template": template} for name, template in templates.items()]


def _jinja_files(folder: Path) -> Chosen:
    files = {DEFAULT: folder / TEMPLATE} if (folder / TEMPLATE).is_file() else {}
    files |= {path.stem: path for path in sorted((folder / MORE_TEMPLATES).glob("*.jinja"))}
    found = {name: read_text(path) for name, path in files.items()}
    for name, text in found.items():
        if not text.strip():
            raise wrong(files[name], "it", text, "a chat template")
    return _flat(found)


def _by_name(templates: Templates | None) -> Chosen:
    if isinstance(templates, list):
        templates = {one.name: one.template for one in templates}
    return _flat(templates) if isinstance(templates, dict) else templates


def _flat(named: dict[str, str]) -> Chosen:
    return named.get(DEFAULT) if named.keys() <= {DEFAULT} else named
