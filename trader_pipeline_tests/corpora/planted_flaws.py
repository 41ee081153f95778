"""Flaws to be planted in clean corpora, each with the rules of which at least one must find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline_tests.corpora.clean_corpora import CLEAN, with_ids

Plant = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Flaw:
    """How a flaw is planted, in which clean corpus, and the rules of which at least one must find it."""

    plant: Plant
    rules: frozenset[str]
    kind: str = "trade"


def planted(name: str, *, records: int, seed: int) -> pd.DataFrame:
    """A clean corpus with the flaw in it."""
    flaw = FLAWS[name]
    rng = np.random.default_rng([seed, 2])
    return with_ids(flaw.plant(CLEAN[flaw.kind](records, seed), rng))


def _is_first(frame: pd.DataFrame) -> np.ndarray:
    return (frame["assistant"] == "SELL_CALL").to_numpy()


def _add_line(frame: pd.DataFrame, lines: list[str]) -> pd.DataFrame:
    """A line before the last one of each prompt."""
    users = [
        u.rsplit("\n", 1)[0] + f"\n{line}\n" + u.rsplit("\n", 1)[1]
        for u, line in zip(frame["user"], lines, strict=True)
    ]
    return frame.assign(user=users)


def _by_answer(sold: str, skipped: str) -> Plant:
    return lambda frame, rng: _add_line(frame, [sold if s else skipped for s in _is_first(frame)])


def _drawn(sold: list[str], skipped: list[str], template: str = "{}") -> Plant:
    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        return _add_line(
            frame, [template.format(rng.choice(sold if s else skipped)) for s in _is_first(frame)]
        )

    return plant


def _printed_in_part(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    says = rng.random(len(frame)) < 0.1
    lines = [f"Label: {a}" if s else "Label: withheld" for a, s in zip(frame["assistant"], says, strict=True)]
    return _add_line(frame, lines)


def _noisy_words(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    told = _is_first(frame) ^ (rng.random(len(frame)) < 0.1)
    return _add_line(
        frame, ["The desk was glad to act." if t else "The desk was glad to wait." for t in told]
    )


def _in_system(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    style = np.where(_is_first(frame), " Favour income.", " Favour patience.")
    return frame.assign(system=frame["system"] + style)


def _trailing_blank(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(user=frame["user"] + np.where(_is_first(frame), " ", ""))


def _double_blank(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    users = [
        u.replace("Spot price: ", "Spot price:  ") if s else u
        for u, s in zip(frame["user"], _is_first(frame), strict=True)
    ]
    return frame.assign(user=users)


def _punctuation(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    users = [u[:-1] + ("!" if s else ".") for u, s in zip(frame["user"], _is_first(frame), strict=True)]
    return frame.assign(user=users)


def _hidden_character(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    users = [
        u.replace("Underlying", "Under\u200blying") if s else u
        for u, s in zip(frame["user"], _is_first(frame), strict=True)
    ]
    return frame.assign(user=users)


def _letter_case(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    users = [
        u.replace("BTC", "btc") if s else u for u, s in zip(frame["user"], _is_first(frame), strict=True)
    ]
    return frame.assign(user=users)


def _more_decimals(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    users = frame["user"].where(
        ~_is_first(frame), frame["user"].str.replace(r"(Delta: \d\.\d\d)", r"\g<1>0", regex=True)
    )
    return frame.assign(user=users)


def _date_parity(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    days = [pd.Timestamp(t).day for t in frame["decision_time"]]
    return frame.assign(assistant=np.where(np.array(days) % 2 == 0, "SELL_CALL", "SKIP"))


def _outcome_figure(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    marks = np.abs(rng.normal(0, 300, len(frame))) * np.where(_is_first(frame), 1, -1)
    return _add_line(frame, [f"Mark: {m:.2f}" for m in marks])


def _outcome_word(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(frame, [f"Reward so far: {rng.normal():.2f}" for _ in range(len(frame))])


def _regime_word(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(
        frame, [str(rng.choice(["Bullish window", "Bearish window"])) for _ in range(len(frame))]
    )


def _hindsight(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(frame, ["Outcome (teacher hindsight for this decision):"] * len(frame))


def _constant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(assistant=np.where(rng.random(len(frame)) < 0.88, "SKIP", "SELL_CALL"))


def _repeat(rows: int, **changes: str) -> Plant:
    return lambda frame, rng: pd.concat([frame, frame.head(rows).assign(**changes)], ignore_index=True)


def _into_val(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Some prompts of train once more in val, changed a little, with a time of val."""
    some = frame.head(max(len(frame) // 20, 3))
    late = frame["decision_time"].max() + pd.Timedelta(hours=4)
    moved = some.assign(
        split="val",
        user=some["user"].map(change),
        decision_time=late,
        label_end_time=late + pd.Timedelta(hours=2),
    )
    return pd.concat([frame, moved], ignore_index=True)


def _near(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _into_val(frame, lambda u: u.replace("Underlying: BTC", "Underlying: BTC (spot)"))


def _contradiction(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    some = frame.head(3)
    other = some["assistant"].map({"SELL_CALL": "SKIP", "SKIP": "SELL_CALL"})
    return pd.concat([frame, some.assign(assistant=other)], ignore_index=True)


def _change_answers(rows: int, change: Callable[[str], str]) -> Plant:
    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        places = rng.choice(len(frame), rows, replace=False)
        answers = frame["assistant"].copy()
        answers.iloc[places] = answers.iloc[places].map(change)
        return frame.assign(assistant=answers)

    return plant


def _swapped(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    changed = frame.copy()
    changed.loc[:2, ["user", "assistant"]] = frame.loc[:2, ["assistant", "user"]].to_numpy()
    return changed


def _long_label(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    last = frame[frame["split"] == "train"].index[-1]
    ends = frame["label_end_time"].copy()
    ends[last] += pd.Timedelta(days=30)
    return frame.assign(label_end_time=ends)


def _random_split(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(split=rng.permutation(frame["split"]))


def _random_split_of_file(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _random_split(frame, rng).drop(columns=["decision_time", "label_end_time"])


def _sealed(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(split=frame["split"].where(frame.index != 5, "sealed"))


def _chat_token(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(user=frame["user"].where(frame.index != 5, frame["user"] + "<|im_end|>"))


def _unlike_test(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    often = np.where(frame["split"] == "train", 0.68, 0.12)
    return frame.assign(assistant=np.where(rng.random(len(frame)) < often, "SELL_CALL", "SKIP"))


def _reorder(frame: pd.DataFrame, order: Callable[[list[str], int | None], list[int]]) -> pd.DataFrame:
    """Candidate lines in a new order; the answer goes with its line."""
    users, answers = [], []
    for user, answer in zip(frame["user"], frame["assistant"], strict=True):
        lines = user.split("\n")
        own = [i for i, line in enumerate(lines) if line.startswith("  [")]
        chosen = int(answer) - 1 if answer != "NO_TRADE" else None
        places = order([lines[i] for i in own], chosen)
        moved = [f"  [{n}] " + lines[own[i]].split("] ", 1)[1] for n, i in enumerate(places, start=1)]
        users.append("\n".join([*lines[: own[0]], *moved, *lines[own[-1] + 1 :]]))
        answers.append("NO_TRADE" if chosen is None else str(places.index(chosen) + 1))
    return frame.assign(user=users, assistant=answers)


def _at_place(place: int) -> Plant:
    def order(lines: list[str], chosen: int | None) -> list[int]:
        rest = [i for i in range(len(lines)) if i != chosen]
        if chosen is not None:
            rest.insert(len(lines) - 1 if place < 0 else place, chosen)
        return rest

    return lambda frame, rng: _reorder(frame, order)


def _sorted_by_hidden_score(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    def order(lines: list[str], chosen: int | None) -> list[int]:
        hidden = rng.normal(0, 1, len(lines))
        if chosen is not None:
            hidden[chosen] += 1.5
        return [int(i) for i in np.argsort(-hidden)]

    return _reorder(frame, order)


def _mark_chosen(change: Callable[[str], str], others: Callable[[str], str] = str) -> Plant:
    """The line of the right candidate is changed."""

    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        users = []
        for user, answer in zip(frame["user"], frame["assistant"], strict=True):
            lines = [
                (change if line.startswith(f"  [{answer}]") else others)(line)
                if line.startswith("  [")
                else line
                for line in user.split("\n")
            ]
            users.append("\n".join(lines))
        return frame.assign(user=users)

    return plant


def _score_shown(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    def low(line: str) -> str:
        return f"{line}, Score: {rng.uniform(1, 6):.2f}"

    return _mark_chosen(lambda line: f"{line}, Score: {rng.uniform(6, 9):.2f}", low)(frame, rng)


def _names_its_strike(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    lines = []
    for user, answer in zip(frame["user"], frame["assistant"], strict=True):
        offered = [line for line in user.split("\n") if line.startswith("  [")]
        named = int(answer) - 1 if answer != "NO_TRADE" else int(rng.integers(len(offered)))
        lines.append(f"Level watched: {offered[named].split('Strike: ')[1].split(',')[0]}")
    return _add_line(frame, lines)


def _index_printed(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(
        frame, [f"  - Chosen candidate index: {a}" if a != "NO_TRADE" else "  - " for a in frame["assistant"]]
    )


def _beyond_list(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(assistant=frame["assistant"].where(frame.index != 5, "17"))


def _swap_where(frame: pd.DataFrame, wrong: np.ndarray) -> pd.DataFrame:
    chosen = np.where(wrong, frame["rejected_answer"], frame["chosen_answer"])
    rejected = np.where(wrong, frame["chosen_answer"], frame["rejected_answer"])
    return frame.assign(chosen_answer=chosen, rejected_answer=rejected)


def _longer_wins(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    longer = "The premium is fair, and the strike is far enough away.\n"
    return frame.assign(
        chosen_answer=longer + frame["chosen_answer"], rejected_answer="Fair.\n" + frame["rejected_answer"]
    )


def _no_trade_loses(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    pairs = frame.assign(
        rejected_answer=np.where(frame["chosen_answer"] != "NO_TRADE", "NO_TRADE", frame["rejected_answer"])
    )
    return _swap_where(pairs, (pairs["chosen_answer"] == "NO_TRADE").to_numpy())


def _earlier_wins(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    place = {str(i): i for i in range(1, 10)} | {"NO_TRADE": 10}
    return _swap_where(
        frame, (frame["chosen_answer"].map(place) > frame["rejected_answer"].map(place)).to_numpy()
    )


def _same_answers(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(
        rejected_answer=frame["rejected_answer"].where(frame.index != 5, frame["chosen_answer"])
    )


def _preferred_printed(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(frame, [f"Best: {answer}" for answer in frame["chosen_answer"]])


def _chosen_in_system(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(system=frame["system"] + " Say " + frame["chosen_answer"])


def _chosen_told(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _add_line(frame, [f"The desk likes {answer}." for answer in frame["chosen_answer"]])


def _chosen_starred(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    starred = _mark_chosen(lambda line: line.replace("] ", "] ★ ", 1))
    return starred(frame.assign(assistant=frame["chosen_answer"]), rng).drop(columns="assistant")


def _chosen_strike(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _names_its_strike(frame.assign(assistant=frame["chosen_answer"]), rng).drop(columns="assistant")


def _random_split_of_mix(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A fifth of the file are instructions that tell no time."""
    others = pd.DataFrame(
        {
            "kind": "stable", "system": "You are a helpful assistant.", "weight": 1.0, "split": "train",
            "user": [f"Add {i} and {i * 7 % 31}." for i in range(len(frame) // 4)],
            "assistant": [f"The sum is {i + i * 7 % 31}." for i in range(len(frame) // 4)],
        }
    )  # fmt: skip
    return pd.concat([_random_split_of_file(frame, rng), others], ignore_index=True)


def _spoken(template: str) -> Plant:
    """In half of the prompts, so that only what is said counts."""

    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        says = rng.random(len(frame)) < 0.5
        lines = [
            template.format(a) if s else "Nothing." for a, s in zip(frame["assistant"], says, strict=True)
        ]
        return _add_line(frame, lines)

    return plant


def _other_answers(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """An outcome in trading prompts whose answers are not ours."""
    told = _add_line(frame, [f"Realised pnl {rng.normal():.2f}"] * len(frame))
    return told.assign(kind="stable", assistant=frame["assistant"].map({"SELL_CALL": "SELL", "SKIP": "HOLD"}))


def _flaw(plant: Plant, *rules: str, kind: str = "trade") -> Flaw:
    return Flaw(plant, frozenset(rules), kind)


FLAWS: dict[str, Flaw] = {
    "answer after a key word": _flaw(
        lambda f, r: _add_line(f, [f"Answer: {a}" for a in f["assistant"]]), "printed_answer"
    ),
    "answer after a key word, in a tenth of the prompts": _flaw(_printed_in_part, "printed_answer"),
    "answer in words of its own": _flaw(
        _by_answer("Later it paid to act.", "Later it paid to wait."), "word"
    ),
    "answer in words of its own, wrong in a tenth": _flaw(_noisy_words, "word"),
    "verdict in other words": _flaw(
        _by_answer("The verdict: go ahead", "The verdict: stay out"), "key_words", "outcome_word"
    ),
    "hint in three words each": _flaw(
        _drawn(["amber", "olive", "slate"], ["coral", "ivory", "lilac"], "Hint colour: {}"),
        "word_at_place",
        "key_words",
    ),
    "code number": _flaw(_drawn(["7", "2", "9"], ["1", "5", "8"], "Desk code {}"), "number_code"),
    "code word": _flaw(_drawn(["north", "east"], ["south", "west"], "Wing {}"), "word_at_place"),
    "answer in the system turn": _flaw(_in_system, "system_turn"),
    "blank at the prompt's end": _flaw(_trailing_blank, "layout"),
    "double blank inside": _flaw(_double_blank, "layout"),
    "last mark": _flaw(_punctuation, "layout"),
    "character that is not seen": _flaw(_hidden_character, "layout"),
    "upper or lower case": _flaw(_letter_case, "word_at_place"),
    "one decimal more": _flaw(_more_decimals, "number_code"),
    "even or odd day": _flaw(_date_parity, "number_code"),
    "outcome figure under a harmless name": _flaw(_outcome_figure, "stump"),
    "outcome word": _flaw(_outcome_word, "outcome_word"),
    "regime word": _flaw(_regime_word, "regime_word"),
    "hindsight lines": _flaw(_hindsight, "hindsight"),
    "one answer in 88 %": _flaw(_constant, "constant"),
    "other shares in train than in val": _flaw(_unlike_test, "answer_shift"),
    "the same record twice": _flaw(_repeat(3), "duplicate"),
    "the same prompt, two answers": _flaw(_contradiction, "contradiction"),
    "prompts of train in val": _flaw(lambda f, r: _into_val(f, str), "duplicate_across_splits"),
    "prompts of train in val, other blanks": _flaw(
        lambda f, r: _into_val(f, lambda u: u.replace("\n", "\n ")), "same_text_across_splits"
    ),
    "prompts of train in val, a word added": _flaw(_near, "near_duplicates_across_splits"),
    "label beyond the split": _flaw(_long_label, "label_overlap"),
    "split at random": _flaw(_random_split, "splits_interleaved"),
    "split at random, times only printed": _flaw(_random_split_of_file, "splits_interleaved"),
    "sealed record": _flaw(_sealed, "sealed"),
    "answer in wrong case": _flaw(_change_answers(3, str.title), "answer_not_allowed"),
    "answer with a line end": _flaw(_change_answers(3, lambda a: f" {a}"), "answer_whitespace"),
    "empty answer": _flaw(_change_answers(1, lambda a: ""), "empty_turn"),
    "user and assistant swapped": _flaw(_swapped, "answer_not_allowed"),
    "chat token": _flaw(_chat_token, "chat_token"),
    "first candidate is right": _flaw(_at_place(0), "position", kind="pick"),
    "last candidate is right": _flaw(_at_place(-1), "position", kind="pick"),
    "sorted by a hidden score": _flaw(_sorted_by_hidden_score, "position_sigmas", kind="pick"),
    "longest candidate line": _flaw(_mark_chosen(lambda x: f"{x} and fine"), "option_looks", kind="pick"),
    "blank after the candidate": _flaw(_mark_chosen(lambda x: f"{x} "), "option_looks", kind="pick"),
    "score shown": _flaw(_score_shown, "largest_score", kind="pick"),
    "names the strike": _flaw(_names_its_strike, "named_option", kind="pick"),
    "index after a key word": _flaw(_index_printed, "printed_answer", kind="pick"),
    "index beyond the list": _flaw(_beyond_list, "answer_not_allowed", kind="pick"),
    "longer answer is preferred": _flaw(_longer_wins, "length", kind="preference"),
    "NO_TRADE is never preferred": _flaw(_no_trade_loses, "favourite_answer", kind="preference"),
    "earlier candidate is preferred": _flaw(_earlier_wins, "position", kind="preference"),
    "twice the same answer": _flaw(_same_answers, "same_answers", kind="preference"),
    "preferred answer printed": _flaw(_preferred_printed, "printed_answer", kind="preference"),
    "preferred answer in the system turn": _flaw(_chosen_in_system, "chosen_system_turn", kind="preference"),
    "preferred answer in a sentence": _flaw(
        _chosen_told, "chosen_word_at_place", "chosen_number_code", kind="preference"
    ),
    "star at the preferred option": _flaw(_chosen_starred, "chosen_option_looks", kind="preference"),
    "names the preferred strike": _flaw(_chosen_strike, "named_option", kind="preference"),
    "answer after `is`, in half of the prompts": _flaw(
        _spoken("The correct answer is {}."), "printed_answer"
    ),
    "answer after a blank, in half of the prompts": _flaw(_spoken("Answer {}."), "printed_answer"),
    "expected answer, in half of the prompts": _flaw(_spoken("Expected: {}"), "printed_answer"),
    "right answer as example, in half of the prompts": _flaw(_spoken("Example answer: {}"), "printed_answer"),
    "outcome word, answers SELL and HOLD": _flaw(_other_answers, "outcome_word"),
    "split at random, among instructions without times": _flaw(_random_split_of_mix, "splits_interleaved"),
    "negative weight": _flaw(
        lambda f, r: f.assign(weight=f["weight"].where(f.index != 5, -3.0)), "weight_unusable"
    ),
}
