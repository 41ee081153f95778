"""Prompts and answers as token ids, many at once: the same ids as `models.encode_prompt` and `encode_answer` give.

Belongs here: encoding in bulk, for whoever reads a whole corpus. Does not belong here: the encoding of one prompt or
answer, which scoring uses and which this is tested against (`models`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

CHUNK = 1000  # records whose ids are held at once


def encode_prompts(tokenizer: Any, systems: Sequence[str], users: Sequence[str]) -> list[list[int]]:
    """Token ids of each pair of turns and of the opening of the assistant's turn."""
    conversations = [_turns(system, user) for system, user in zip(systems, users, strict=True)]
    return _encode_conversations(tokenizer, conversations, add_generation_prompt=True)


def encode_answers(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer and of the token that ends the turn."""
    return [[*ids, tokenizer.eos_token_id] for ids in encode_texts(tokenizer, answers)]


def encode_records(
    tokenizer: Any, systems: Sequence[str], users: Sequence[str], answers: Sequence[str]
) -> list[list[int]]:
    """Token ids of each whole conversation, with whatever the chat template writes after the end of turn."""
    conversations = [
        [*_turns(system, user), {"role": "assistant", "content": answer}]
        for system, user, answer in zip(systems, users, answers, strict=True)
    ]
    return _encode_conversations(tokenizer, conversations, add_generation_prompt=False)


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as it stands; special tokens are neither added nor hidden."""
    if not texts:
        return []
    if not tokenizer.is_fast:
        return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # an earlier call of the tokenizer may have left either on
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def chunks(count: int) -> Iterator[slice]:
    """Slices of at most CHUNK rows that cover `count` rows in order."""
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _turns(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _encode_conversations(
    tokenizer: Any, conversations: list[list[dict[str, str]]], *, add_generation_prompt: bool
) -> list[list[int]]:
    if not conversations:
        return []
    texts = tokenizer.apply_chat_template(
        conversations, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return encode_texts(tokenizer, texts)
