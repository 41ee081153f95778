"""Tokenizers made ready for chat records: a template where there is none, the end of turn, the padding token, checks.

Belongs here: whatever decides how turns become text and which token ends one. No new vocabulary is ever added. Does
not belong here: loading (`models`), the encoding of records (`models.encode_prompt`, `encoding`).
"""

import logging
from typing import Any

from jinja2 import TemplateError

from trader_pipeline.training.model_params import ModelError

CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Role lines as plain text, and the tokenizer's own end of text after each turn, as DialoGPT learnt to take turns.
PLAIN_TEMPLATE = (
    "{% if bos_token and bos_token != eos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['role'] + ':\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\\n' }}{% endif %}"
)
# Never ends a turn and no record holds it; the last two are the byte 0 in byte-level and in SentencePiece vocabularies.
_PADDING = (
    "<|endoftext|>", "<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<unk>", "Ā", "<0x00>",
)  # fmt: skip
_TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Pick [10] or [1]."}]
_ANSWER = "10"
_log = logging.getLogger(__name__)


def prepare_tokenizer(tokenizer: Any, name: str) -> None:
    """Give the tokenizer of model `name` a template, an end of turn and padding that is not it; check all three.

    Raises:
        ModelError: no token can end a turn or pad, or the template merges an answer with what stands around it.
    """
    if tokenizer.chat_template is None:
        _supply_template(tokenizer, name)
    elif "enable_thinking" in tokenizer.chat_template:
        # Such templates open the answer with an empty thought only if told so; else they put it in afterwards.
        tokenizer.chat_template = "{%- set enable_thinking = false %}" + tokenizer.chat_template
    try:
        _take_end_of_turn_from_template(tokenizer)
    except TemplateError as error:
        raise ModelError(
            f"{name!r}: its chat template refuses system, user and assistant: {error}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{name!r}: its tokenizer has no end-of-turn token; a model trained on it could not stop"
        )
    _choose_padding(tokenizer, name)
    _check_chat_template(tokenizer, name)


def _supply_template(tokenizer: Any, name: str) -> None:
    """ChatML where the vocabulary has its two tokens, else plain text."""
    vocabulary = tokenizer.get_vocab()
    if {"<|im_start|>", "<|im_end|>"} <= vocabulary.keys():
        tokenizer.chat_template, kind = CHATML_TEMPLATE, "ChatML"
    else:
        tokenizer.chat_template, kind = PLAIN_TEMPLATE, f"plain role lines ended by {tokenizer.eos_token!r}"
    _log.warning("%s has no chat template; using %s", name, kind)


def _take_end_of_turn_from_template(tokenizer: Any) -> None:
    """Chat templates of base models often end turns with another special token than the tokenizer's end of text."""
    messages = [*_TURNS, {"role": "assistant", "content": _ANSWER}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    tail = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder.get(tail[0]) if tail else None
    if added is not None and added.special:
        tokenizer.eos_token = added.content


def _choose_padding(tokenizer: Any, name: str) -> None:
    """Padding with the end of turn is only safe behind a right mask; another token cannot teach it at all."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return
    vocabulary = tokenizer.get_vocab()
    spare = [token for token in (*_PADDING, tokenizer.bos_token) if token in vocabulary]
    spare = [token for token in spare if token != tokenizer.eos_token]
    if not spare:
        raise ModelError(f"{name!r}: its tokenizer has no token to pad with but {tokenizer.eos_token!r}")
    tokenizer.pad_token = spare[0]


def _check_chat_template(tokenizer: Any, name: str) -> None:
    """A prompt and its answer, encoded apart, must be what the whole conversation encodes to."""
    messages = [*_TURNS, {"role": "assistant", "content": _ANSWER}]
    whole = list(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
    prompt = tokenizer.apply_chat_template(_TURNS, add_generation_prompt=True, return_dict=True)["input_ids"]
    answer = [*tokenizer(_ANSWER, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    apart = [*prompt, *answer]
    trailing = whole[len(apart) :]
    if whole[: len(apart)] != apart or tokenizer.decode(trailing, skip_special_tokens=True).strip():
        raise ModelError(
            f"{name!r}: its chat template does not end an answer with {tokenizer.eos_token!r} right after it:\n"
            f"  {tokenizer.decode(whole)!r}\n  {tokenizer.decode(apart)!r}"
        )
    if tokenizer.bos_token_id is not None and whole[:2] == [tokenizer.bos_token_id] * 2:
        raise ModelError(f"{name!r}: its chat template starts with {tokenizer.bos_token!r} twice")
