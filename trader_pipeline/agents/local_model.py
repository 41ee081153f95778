"""The project's base model or an adapter as the answerer of chat questions: named, loaded once, one question at a time.

Belongs here: the model's name, loading, scoring and writing for `constrained`, counting tokens. Does not belong here:
HTTP (`endpoint`), what is answered (`constrained`), how a model is loaded (`training.models`).

Torch is loaded with the model, at the first question.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trader_pipeline.agents.constrained import ChatAnswer, ChatQuestion, TooLongError, answer_question
from trader_pipeline.store import file_sha256
from trader_pipeline.training.adapter_files import adapter_sha256, base_model_of
from trader_pipeline.training.model_params import TINY, ModelError, ModelParams

if TYPE_CHECKING:
    import numpy as np

DEFAULT_ROWS = 12
_OF_MODEL = (".safetensors", ".json", ".jinja", ".model", ".txt")


def local_model_id(params: ModelParams, adapter: Path | None = None, *, rows: int = DEFAULT_ROWS) -> str:
    """The model's name at the endpoint, by which its answers are kept: what changes an answer is part of it.

    That are the weights of a folder (`model@0123456789abcdef`) and of an adapter (`...+0123456789abcdef`), and the
    settings that are not the usual ones, such as `rows`: `smollm2-135m-instruct:24candles`. A hub id stands in full.

    Raises:
        ModelError: `adapter` holds no adapter.
    """
    name = params.model_name
    if Path(name).is_dir():
        name = f"{Path(name).resolve().name}@{_folder_sha256(Path(name))[:16]}"
    if adapter is not None:
        try:
            name += f"+{adapter_sha256(adapter)[:16]}"
        except FileNotFoundError as error:
            raise ModelError(f"{adapter} holds no adapter; train one with 'trader-pipeline train'") from error
    unusual = [
        (f"{rows}candles", rows != DEFAULT_ROWS),
        ("4bit", params.load_in_4bit),
        (params.dtype, params.dtype != "auto"),
        (f"seed{params.seed}", params.model_name == TINY and params.seed != 0),
    ]
    return "".join([name, *(f":{what}" for what, is_so in unusual if is_so)])


def _folder_sha256(folder: Path) -> str:
    """Of the whole weights, the settings and the tokenizer: half a second a gigabyte, where loading takes longer."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _OF_MODEL and path.is_file()]
    lines = [f"{path.name} {file_sha256(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class LocalModel:
    """A model that answers one question at a time; loaded when the first one comes."""

    def __init__(self, params: ModelParams, *, adapter: Path | None = None, rows: int = DEFAULT_ROWS) -> None:
        """Name the model; an adapter decides which base model, where its manifest says so.

        Args:
            rows: what it asks a tool for, such as candles: more are seen, and more slowly.

        Raises:
            ModelError: `adapter` holds no adapter.
        """
        base = None if adapter is None else base_model_of(adapter)
        params = params if base is None else params.model_copy(update={"model_name": base})
        self.name = local_model_id(params, adapter, rows=rows)
        self._params, self._adapter, self._rows = params, adapter, rows
        self._alone = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer.

        Raises:
            ModelError: one of them cannot be loaded.
        """
        if self._loaded is None:
            from trader_pipeline.training.models import load_adapter, load_base_model
            from trader_pipeline.training.progress import show_loading_in_terminals_alone

            show_loading_in_terminals_alone()
            self._loaded = (
                load_adapter(self._adapter, self._params)
                if self._adapter is not None
                else load_base_model(self._params)
            )
        return self._loaded

    def answer(self, question: ChatQuestion) -> tuple[ChatAnswer, int, int]:
        """The answer, and how many tokens were read and written.

        Raises:
            UnanswerableError: the question cannot be answered here, or is too long for the model.
            ModelError: the model cannot be loaded.
        """
        from trader_pipeline.training.models import encode_prompt

        with self._alone:
            _, tokenizer = self.load()
            answer = answer_question(question, score=self._score, write=self._write, rows=self._rows)
            read = len(encode_prompt(tokenizer, *question.prompt))
            written = (
                len(tokenizer(answer.text, add_special_tokens=False)["input_ids"]) + 1
            )  # the end of turn
        return answer, read, written

    def _score(self, prompt: tuple[str, str], allowed: list[str]) -> np.ndarray:
        from trader_pipeline.evaluation.scoring import score_answers

        model, tokenizer = self.load()
        try:
            [scores] = score_answers(model, tokenizer, [prompt], [allowed], dtype=self._params.dtype)
        except ValueError as error:  # its other complaints cannot come up: the values are there and distinct
            raise TooLongError(str(error)) from error
        return scores

    def _write(self, prompt: tuple[str, str], most: int) -> tuple[str, bool]:
        from trader_pipeline.evaluation.free_text import generate_answers

        model, tokenizer = self.load()
        try:
            [written] = generate_answers(
                model, tokenizer, [prompt], [[]], max_new_tokens=most, dtype=self._params.dtype
            )
        except ValueError as error:
            raise TooLongError(str(error)) from error
        return written.text, written.finished
