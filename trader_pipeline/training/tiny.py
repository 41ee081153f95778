"""A randomly initialised small Llama with its own tokenizer: the whole training path in seconds, without a download.

Belongs here: how that model and tokenizer are made. It knows nothing, so no figure of it says anything about a policy.
"""

from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from trader_pipeline.training.chat_templates import CHATML_TEMPLATE

VOCAB_SIZE = 512
_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Only shapes the merges: words that occur in prompts become few tokens instead of many bytes.
_TOKENIZER_TEXT = (
    "system user assistant You decide on covered calls for a holder of one coin.",
    "Underlying BTC spot 64210 USD, decision 2024-05-01 12:00 UTC, exit style hold_to_expiry or tp_and_roll.",
    "Trend: 1d +0.4%, 7d -3.1%, 30d +12.9%. Realised volatility: 7d 0.52, 30d 0.61. Drawdown from high 30d 4.2%.",
    "[1] BTC-27DEC24-90000-C - Strike: 90000, DTE: 7.0, Delta: 0.23, IV: 0.65, IV/RV: 1.12, Premium yield: 0.85%",
    "[2] ETH-28JUN24-3600-C - Strike: 3600, DTE: 14.3, Delta: 0.18, IV: 0.71, IV/RV: 1.05, Premium yield: 1.20%",
    "Reply with exactly one token: SELL_CALL or SKIP. Reply with the index of one candidate or NO_TRADE.",
    "What is the capital of France? Answer the question briefly and correctly, then stop. The answer is",
)


def build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over a fixed text, digits kept apart, ChatML template. Deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    digits, pieces = (
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TOKENIZER_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_tiny_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Any:
    """Two layers, hidden size 64, tied embeddings; the same weights for the same seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(seed)
    return LlamaForCausalLM(config)
