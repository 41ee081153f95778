"""Llama-, Qwen- and GPT-2-type models as a hub would hold them: random, tiny, safetensors, each with its own kind of
tokenizer and the chat template that such models come with (GPT-2: none)."""

import json
from pathlib import Path

import torch
import trl
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trader_pipeline_tests.training.corpus_factory import rule_corpus

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
END_OF_TURN = {
    "llama": "<|eot_id|>",
    "qwen2": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gpt2": "<|endoftext|>",
}
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def write_model(kind: str, folder: Path) -> str:
    """A model of that kind with its tokenizer in `folder`, as safetensors; returns the folder's name."""
    tokenizer = {"llama": _llama_tokenizer, "gpt2": _gpt2_tokenizer}.get(kind, _qwen_tokenizer)()
    if kind != "gpt2":
        template = {"llama": "llama3", "qwen2": "qwen2_5", "qwen3": "qwen3"}[kind]
        tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    torch.manual_seed(0)
    _model(kind, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _model(kind: str, vocab_size: int):
    if kind == "gpt2":
        config = GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=4, n_positions=256)
        return GPT2LMHeadModel(config)
    kinds = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }
    make_config, make_model = kinds[kind]
    heads = {"head_dim": 8} if kind == "qwen3" else {}
    return make_model(make_config(vocab_size=vocab_size, **_SHAPE, **heads))


def _byte_level_bpe(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(rule_corpus()["user"], vocab_size=400, show_progress=False)
    vocabulary = bpe.get_vocab()
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    return vocabulary | {token: len(vocabulary) + i for i, token in enumerate(special)}, merges


def _gpt2_tokenizer():
    vocabulary, merges = _byte_level_bpe(["<|endoftext|>"])
    return GPT2Tokenizer(vocab=vocabulary, merges=merges)


def _qwen_tokenizer():
    vocabulary, merges = _byte_level_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def _llama_tokenizer():
    special = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
        "<|finetune_right_pad_id|>",
    ]  # fmt: skip
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(rule_corpus()["user"], vocab_size=400, show_progress=False)
    bpe.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )
