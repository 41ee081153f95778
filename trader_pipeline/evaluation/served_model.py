"""What `mlflow models serve` answers: the likeliest of a question's allowed answers, or generated text without any.

MLflow copies this file into the registered model and runs it (`training.logged_model` says so); nothing imports it.
Belongs here: requests and replies. Does not belong here: scoring (`scoring`) and generating
(`free_text`) themselves.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from trader_pipeline.evaluation.free_text import generate_answers
from trader_pipeline.evaluation.scoring import score_answers
from trader_pipeline.training.models import ModelError, ModelParams, load_adapter

MAX_NEW_TOKENS = 32


class ServedAdapter(PythonModel):
    """An adapter on its base model. Requests wait for each other: a tokenizer serves one thread at a time."""

    def load_context(self, context: Any) -> None:
        params = ModelParams.model_validate(context.model_config["model"])
        folder = Path(context.artifacts["adapter"])
        try:
            self._model, self._tokenizer = load_adapter(folder, params)
        except ModelError as error:
            raise ModelError(
                f"the adapter needs its base model {params.model_name!r} on this machine: {error}"
            ) from error
        self._dtype = params.dtype
        self._alone = threading.Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Columns system, user, answers -> answer, its probability among them, log_probabilities in nats, finished.

        Without allowed answers: the text that greedy decoding gives, of at most 32 tokens, nulls, and whether the model
        ended its turn itself (False: the text was cut). `finished` is null for an answer that was scored.
        """
        with self._alone:
            return pd.DataFrame(
                [self._answer(number, row) for number, row in enumerate(model_input.to_dict("records"))],
                columns=["answer", "probability", "log_probabilities", "finished"],
                dtype=object,  # a missing probability is null: a float column would make it NaN, which is no JSON
            )

    def _answer(
        self, number: int, row: dict[Any, Any]
    ) -> tuple[str, float | None, list[float] | None, bool | None]:
        given = row.get("answers")
        answers = list(given) if isinstance(given, list | np.ndarray) else None
        _check_texts(number, [row["system"], row["user"], *(answers or [])])
        if answers == []:
            raise _bad_request(
                number, "answers is empty; name the allowed ones, or leave it out for free text"
            )
        prompt = row["system"], row["user"]
        try:
            return self._write(prompt) if answers is None else self._choose(prompt, answers)
        except ValueError as error:
            raise _bad_request(number, str(error)) from error

    def _choose(self, prompt: tuple[str, str], answers: list[str]) -> tuple[str, float, list[float], None]:
        [scores] = score_answers(self._model, self._tokenizer, [prompt], [answers], dtype=self._dtype)
        best = int(np.argmax(scores))
        return answers[best], float(np.exp(scores[best] - np.logaddexp.reduce(scores))), scores.tolist(), None

    def _write(self, prompt: tuple[str, str]) -> tuple[str, None, None, bool]:
        [written] = generate_answers(
            self._model, self._tokenizer, [prompt], [[]], max_new_tokens=MAX_NEW_TOKENS, dtype=self._dtype
        )
        return written.text, None, None, written.finished


def _check_texts(number: int, texts: list[Any]) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise _bad_request(number, "system, user and each of answers must be a text; one of them is null")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise _bad_request(number, f"{half} is half a character; send the whole one, as UTF-8") from None


def _bad_request(number: int, text: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(f"row {number}: {text}")


set_model(ServedAdapter())
