"""The tokenizer of Qwen2.5-VL: Qwen2's byte-level BPE, on the `tokenizers` library through PaddleNLP."""

from __future__ import annotations

from pathlib import Path

from paddlenlp.transformers.qwen2.tokenizer_fast import Qwen2TokenizerFast

from paddlemix_qwenvl.models.host_side import PortableTokenizer
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import read_chat_template, render_chat


class Qwen2_5_VLTokenizer(PortableTokenizer, Qwen2TokenizerFast):
    """Qwen2's fast tokenizer, padding on the left, with the Hub's Jinja chat template."""

    padding_side = "left"
    saved_class = "Qwen2Tokenizer"  # by which transformers knows it

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As the host's, which knows nothing of chat_template.jinja."""
        tokenizer = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        tokenizer.chat_template = read_chat_template(folder) or tokenizer.chat_template
        return tokenizer

    def init_chat_template(self, chat_template):
        """Take the Hub's template: Jinja text, or the path of a file beside which one lies."""
        text = str(chat_template)
        self.chat_template = read_chat_template(text.rpartition("/")[0]) if text.endswith(".json") else text

    def decode(
        self, token_ids, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False, **kwargs
    ):
        """As the host's, which by default takes spaces away before full stops and apostrophes."""
        return super().decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces, **kwargs)

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **kwargs) -> list[str]:
        """As `decode`, for each row."""
        return [self.decode(row, skip_special_tokens, **kwargs) for row in sequences]

    def apply_chat_template(self, conversation, tokenize: bool = True, add_generation_prompt: bool = False, **kwargs):
        """The prompt's text, or its ids. See `render_chat`."""
        text = render_chat(self.chat_template, conversation, add_generation_prompt)
        return self(text, add_special_tokens=False, **kwargs) if tokenize else text
