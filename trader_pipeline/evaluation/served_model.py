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
from trader_pipeline.training.models import ModelError, ModelParams, encode_prompt, load_adapter

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
        """Columns system, user, answers -> answer, its probability among them, and log_probabilities in nats.

        Without allowed answers: the text that greedy decoding gives, of at most 32 tokens, and nulls.
        """
        with self._alone:
            return pd.DataFrame(
                [self._answer(number, row) for number, row in enumerate(model_input.to_dict("records"))],
                columns=["answer", "probability", "log_probabilities"],
                dtype=object,  # a missing probability is null: a float column would make it NaN, which is no JSON
            )

    def _answer(self, number: int, row: dict[Any, Any]) -> tuple[str, float | None, list[float] | None]:
        prompt = row["system"], row["user"]
        answers = list(row["answers"]) if isinstance(row.get("answers"), list | np.ndarray) else []
        if not all(isinstance(text, str) for text in (*prompt, *answers)):
            raise _bad_request(number, "system, user and each of answers must be a text; one of them is null")
        self._check_length(number, prompt)
        if not answers:
            [written] = generate_answers(
                self._model, self._tokenizer, [prompt], [[]], max_new_tokens=MAX_NEW_TOKENS, dtype=self._dtype
            )
            return written.text, None, None
        try:
            [scores] = score_answers(self._model, self._tokenizer, [prompt], [answers], dtype=self._dtype)
        except ValueError as error:
            raise _bad_request(number, str(error)) from error
        best = int(np.argmax(scores))
        return answers[best], float(np.exp(scores[best] - np.logaddexp.reduce(scores))), scores.tolist()

    def _check_length(self, number: int, prompt: tuple[str, str]) -> None:
        length = len(encode_prompt(self._tokenizer, *prompt)) + MAX_NEW_TOKENS
        most = self._model.config.max_position_embeddings
        if length > most:
            raise _bad_request(
                number, f"{length} tokens with the answer, the model reads {most}; shorten the prompt"
            )


def _bad_request(number: int, text: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(f"row {number}: {text}")


set_model(ServedAdapter())
