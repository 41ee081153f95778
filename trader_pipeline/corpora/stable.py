"""General instructions, written for this project, that keep the model's other abilities."""

from __future__ import annotations

import json
from importlib.resources import files

import pandas as pd

from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema.tables import STABLE_CORPUS

SYSTEM = "You are a helpful assistant. Answer briefly and correctly."
TRAIN_SHARE, VAL_SHARE = 0.7, 0.15


def load_stable_instructions() -> pd.DataFrame:
    """The instructions of `stable_instructions.jsonl` as a frame of STABLE_CORPUS, in the file's order.

    They have no time, so the split (70 % train, 15 % val, 15 % test) comes from a hash of the instruction.

    Raises:
        ValueError: a line without instruction or answer; names the line.
    """
    text = files("trader_pipeline.corpora").joinpath("stable_instructions.jsonl").read_text(encoding="utf-8")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        row = json.loads(line)
        if not row.get("instruction") or not row.get("answer"):
            raise ValueError(
                f"stable_instructions.jsonl:{number}: needs 'instruction' and 'answer', got {row}"
            )
        rows.append((_split(row["instruction"]), row["instruction"], row["answer"]))
    split, user, assistant = (list(column) for column in zip(*rows, strict=True))
    columns = {"split": split, "system": SYSTEM, "user": user, "assistant": assistant}
    return corpus_frame("stable", columns, STABLE_CORPUS)


def _split(instruction: str) -> str:
    place = int(text_hash("stable", instruction), 16) / 16**16
    if place < TRAIN_SHARE:
        return "train"
    return "val" if place < TRAIN_SHARE + VAL_SHARE else "test"
