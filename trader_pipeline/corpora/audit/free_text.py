"""Rules for records with free answers: is the answer in the prompt, word for word?

Belongs here: instructions and the like, where no few answers serve all records and so nothing can be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.learned import Measured
from trader_pipeline.corpora.audit.params import AuditParams
from trader_pipeline.corpora.audit.reading import prints_text
from trader_pipeline.corpora.audit.sides import lower_limit

_FEWEST_CHARACTERS = 20


def measure_free_text(frame: pd.DataFrame, params: AuditParams) -> Iterator[Measured]:
    """Share of prompts that print their answer after a key word, that hold it word for word, and of repeats."""
    users, answers = frame["user"].tolist(), frame["answer"].tolist()
    copied = np.array([len(a) >= _FEWEST_CHARACTERS and a in u for u, a in zip(users, answers, strict=True)])
    printed = np.array([bool(a) and prints_text(u, a) for u, a in zip(users, answers, strict=True)])
    detail = "answers stand word for word in their prompts"
    yield _share("answers_copied", copied, params.copied_answers, detail, params)
    detail = "answers stand in their prompts after a word such as answer or solution"
    yield _share("answers_printed", printed, params.printed_free_answers, detail, params)
    repeats = float(frame.duplicated(["system", "user"]).mean())
    yield Measured("repeats", repeats, None, False)


def _share(figure: str, mask: np.ndarray, bound: float, detail: str, params: AuditParams) -> Measured:
    share = float(mask.mean())
    above = lower_limit(share, len(mask), params.confidence_sigmas) > bound
    return Measured(figure, share, bound, above, detail, int(mask.argmax()) if mask.any() else None)
