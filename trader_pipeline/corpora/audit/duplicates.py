"""The same prompt twice, with two answers, or in two splits.

Belongs here: what is said of records by comparing them with each other. Nothing is learned here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from trader_pipeline.corpora.audit.features import Tokens, tokens_of
from trader_pipeline.corpora.audit.text_rules import PAIR, Broken

_FEWEST_TOKENS, _RARE_TOKENS, _MOST_HOLDERS, _MOST_PARTNERS, _BATCH = 12, 6, 60, 5, 4_000


def broken_repeats(frame: pd.DataFrame, *, closed: bool) -> Iterator[Broken]:
    """Repeated prompts of one kind, and prompts with two answers.

    A free text may be shown several times and have several good answers; a closed question may not.
    """
    if "chosen_answer" in frame:
        pairs = frame[["system", "user", *PAIR]]
        turned = pairs.rename(
            columns={"chosen_answer": "rejected_answer", "rejected_answer": "chosen_answer"}
        )
        both = pairs.merge(turned[list(pairs)].drop_duplicates(), how="left", indicator=True)
        rows = np.flatnonzero(both["_merge"] == "both")
        yield Broken("contradiction", rows, "the same two answers are preferred both ways")
        yield Broken(
            "duplicate", np.flatnonzero(pairs.duplicated()), "the same pair of answers stands here before"
        )
    elif closed:
        prompt = frame.groupby(["system", "user"], sort=False)["answer"]
        several = (prompt.transform("nunique") > 1).to_numpy(bool)
        said = ", ".join(sorted(frame["answer"][_same_prompt(frame, several)].unique())[:4])
        yield Broken("contradiction", np.flatnonzero(several), f"the same prompt has the answers {said}")
        again = frame.duplicated(["system", "user"]).to_numpy(bool)
        yield Broken("duplicate", np.flatnonzero(again & ~several), "the same prompt stands here before")


def broken_across(frame: pd.DataFrame) -> Iterator[Broken]:
    """Prompts of train that stand in another split as well: to the letter, or but for blanks, case and last marks."""
    train = (frame["split"] == "train").to_numpy(bool)
    for rule, texts in (
        ("duplicate_across_splits", frame["user"]),
        ("same_text_across_splits", frame["user"].map(_normalised)),
    ):
        other = ~train & texts.isin(set(texts[train])).to_numpy(bool)
        if rule != "duplicate_across_splits":
            other &= ~frame["user"].isin(set(frame["user"][train])).to_numpy(bool)
        yield Broken(rule, np.flatnonzero(other), "this prompt stands in train too")
    between = frame[~train].groupby("user")["split"].transform("nunique")
    rows = np.flatnonzero(~train)[(between > 1).to_numpy(bool)]
    yield Broken("duplicate_across_splits", rows, "this prompt stands in two splits")


def near_duplicates(frame: pd.DataFrame, *, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Records outside train with a prompt of train that has nearly the same rare words and figures.

    Similarity is the weight of the tokens that both prompts have over that of those either has; a token (with the word
    before it) weighs the more the fewer prompts have it, so that what all prompts say does not count. Only prompts
    that are not the same to the letter, and of at least 12 tokens.

    Returns:
        Rows outside train that have one, and for each the row of train.
    """
    train = (frame["split"] == "train").to_numpy(bool)
    matrix = _token_matrix(tokens_of(frame["user"].tolist()), len(frame))
    holders = np.asarray(matrix.sum(axis=0)).ravel()
    weight = np.log(len(frame) / np.maximum(holders, 1))
    long = np.asarray(matrix.sum(axis=1)).ravel() >= _FEWEST_TOKENS
    inside, outside = np.flatnonzero(train & long), np.flatnonzero(~train & long)
    if not len(inside) or not len(outside):
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    left, right = _sharing_rare_tokens(matrix, outside, inside)
    common = _row_weights(matrix[left].multiply(matrix[right]), weight)
    own = _row_weights(matrix, weight)
    alike = common >= similarity * (own[left] + own[right] - common)
    user = frame["user"].to_numpy(object)
    alike &= (common > 0) & (user[left] != user[right])
    rows, first = np.unique(left[alike], return_index=True)
    return rows, right[alike][first]


def _token_matrix(tokens: Tokens, records: int) -> sparse.csr_matrix:
    """(records, tokens with the word before them), 1 where a record has it."""
    pair = tokens.slot.astype(np.int64) * (len(tokens.vocabulary) + 1) + tokens.token
    column, distinct = pd.factorize(pair)
    ones = np.ones(len(column), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, (tokens.record, column)), shape=(records, max(len(distinct), 1)))
    matrix.data[:] = 1
    return matrix


def _sharing_rare_tokens(
    matrix: sparse.csr_matrix, outside: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (outside, inside) that share most of the rare tokens: those that few prompts of train have."""
    known = matrix[inside]
    holders = np.asarray(known.sum(axis=0)).ravel()
    rare = np.flatnonzero((holders > 0) & (holders <= _MOST_HOLDERS))
    asked = _rarest(matrix[outside][:, rare], holders[rare])
    known = known[:, rare].T.tocsr()
    pairs = []
    for start in range(0, len(outside), _BATCH):
        shared = (asked[start : start + _BATCH] @ known).tocoo()
        few = pd.DataFrame({"left": shared.row, "right": shared.col, "shared": shared.data})
        few = few.sort_values(["left", "shared", "right"], ascending=[True, False, True])
        few = few.groupby("left").head(_MOST_PARTNERS)
        pairs.append((outside[few["left"] + start], inside[few["right"]]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _rarest(asked: sparse.csr_matrix, holders: np.ndarray) -> sparse.csr_matrix:
    """The few tokens of each row that the fewest prompts have."""
    entries = asked.tocoo()
    order = np.lexsort((entries.col, holders[entries.col], entries.row))
    row, column = entries.row[order], entries.col[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    keep = place < _RARE_TOKENS
    ones = np.ones(int(keep.sum()), dtype=np.float32)
    return sparse.csr_matrix((ones, (row[keep], column[keep])), shape=asked.shape)


def _row_weights(matrix: sparse.csr_matrix, weight: np.ndarray) -> np.ndarray:
    return np.asarray(matrix @ weight).ravel()


def _same_prompt(frame: pd.DataFrame, mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return mask
    first = frame.iloc[int(mask.argmax())]
    return ((frame["system"] == first["system"]) & (frame["user"] == first["user"])).to_numpy(bool)


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!?\"' ")
