"""General instructions that keep the model's other abilities: the project's own, or a file of yours.

Belongs here: reading such instructions, and their form on disk. Does not belong here: their share of a corpus
(`mixing`, `stable_mix`), or answers that a model writes (`training.distillation`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from trader_pipeline.corpora.audit.chat_files import UnreadableError, read_chat_file
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema.tables import STABLE_CORPUS
from trader_pipeline.store import file_sha256, write_atomic

SYSTEM = "You are a helpful assistant. Answer briefly and correctly."
TRAIN_SHARE, VAL_SHARE = 0.7, 0.15


class StableParams(BaseModel):
    """Where the stable instructions come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = Field(
        None,
        description="chat file of instructions, e.g. from 'corpus distil'; empty: those that come with the project",
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """A run is made again from other folders than the one it was asked for in."""
        return None if path is None else path.expanduser().absolute()

    @property
    def content(self) -> str | None:
        """SHA-256 of the file: what counts of it, wherever it lies. None for the project's own.

        Raises:
            ValueError: the file is not there.
        """
        return None if self.path is None else file_sha256(_existing(self.path))


def load_stable_instructions(params: StableParams | None = None) -> pd.DataFrame:
    """The stable instructions as a frame of STABLE_CORPUS, in the file's order, each prompt once.

    They have no time, so the split (70 % train, 15 % val, 15 % test) comes from a hash of the instruction.

    Raises:
        ValueError: the file is not there, or a line of it cannot be read whole; names the line.
    """
    path = (params or StableParams()).path
    own = Path(str(files("trader_pipeline.corpora").joinpath("stable_instructions.jsonl")))
    frame = load_stable_file(own if path is None else _existing(path))
    return frame.assign(split=frame["user"].map(_split))


def load_stable_file(path: str | Path) -> pd.DataFrame:
    """Instructions of any chat file as a frame of STABLE_CORPUS, in the file's order, repeats left out; split `train`.

    Read is what the audit reads: chat records, `{"instruction", "input", "output"}`, prompt and completion, question
    and answer. A record without a system turn gets that of the project's own instructions.

    Raises:
        UnreadableError: the first record that cannot be read whole, is a preference or has an empty turn; names file
            and line.
    """
    rows, findings = read_chat_file(path)
    if findings:
        raise UnreadableError(f"{path}:{findings[0].line}: {findings[0].detail}")
    if "chosen_answer" in rows and rows["chosen_answer"].notna().any():
        line = rows.loc[rows["chosen_answer"].notna(), "line"].iloc[0]
        raise UnreadableError(
            f"{path}:{line}: a preference (chosen, rejected); stable records have one answer"
        )
    texts = rows[["system", "user", "assistant"]].apply(lambda column: column.str.strip())
    texts["system"] = texts["system"].where(texts["system"] != "", SYSTEM)
    if (empty := (texts == "").any(axis=1)).any():
        raise UnreadableError(f"{path}:{rows.loc[empty, 'line'].iloc[0]}: the prompt or its answer is empty")
    once = texts.drop_duplicates("user")
    return corpus_frame("stable", {"split": "train", **{n: once[n] for n in once}}, STABLE_CORPUS)


def write_stable_file(answers: Iterable[tuple[str, str]], path: str | Path, *, model: str) -> Path:
    """(instruction, answer) pairs as a file that `load_stable_instructions` reads; each line names who answered.

    Raises:
        FileExistsError: `path` exists; it is never overwritten.
    """
    lines = (
        json.dumps({"instruction": text, "answer": answer, "model": model}, ensure_ascii=False) + "\n"
        for text, answer in answers
    )
    return write_atomic(path, "".join(lines).encode())


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(
            f"stable.path is {path}, and there is no such file; 'trader-pipeline corpus distil' writes one"
        )
    return path


def _split(instruction: str) -> str:
    place = int(text_hash("stable", instruction), 16) / 16**16
    if place < TRAIN_SHARE:
        return "train"
    return "val" if place < TRAIN_SHARE + VAL_SHARE else "test"
