"""The whole evaluation of an adapter: held-out steps and sequential backtest, against base model, teacher, rules.

Belongs here: putting `held_out`, `sequential` and the models together. Nothing else loads the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
from tqdm import tqdm

from trader_pipeline.backtest import (
    AlwaysPolicy,
    BacktestParams,
    NeverPolicy,
    Policy,
    RandomPolicy,
    TeacherPolicy,
)
from trader_pipeline.corpora.render import PromptStep, RenderParams
from trader_pipeline.corpora.splits import Boundaries, SplitParams, split_boundaries
from trader_pipeline.evaluation.held_out import (
    TEACHER,
    Chooser,
    answer_kinds,
    decision_metrics,
    evaluate_held_out,
    held_out_steps,
    mean_intervals,
    paired_differences,
)
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.evaluation.parsing import ParsedAnswer
from trader_pipeline.evaluation.policies import (
    RULES,
    Choice,
    FreeTextPolicy,
    LanguageModelPolicy,
    recorded_slopes,
)
from trader_pipeline.evaluation.sequential import Candles, book_metrics, equity_frame, run_policies
from trader_pipeline.options.params import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.training.models import ModelParams

if TYPE_CHECKING:  # it imports torch
    from trader_pipeline.evaluation.free_text import FreeAnswer

ADAPTER, BASE = "adapter", "base model"
FREE_TEXT = " (free text)"
ModelPolicy = LanguageModelPolicy | FreeTextPolicy


class Guest(Policy, Protocol):
    """A policy of another stage, judged beside the models on the same steps and in the same backtest."""

    def choose(self, steps: Sequence[PromptStep]) -> Sequence[Choice]:
        """One choice a step, in order."""

    def own_metrics(self) -> pd.DataFrame:
        """Rows of POLICY_METRICS that it alone can count, such as the steps to which no answer came."""


@dataclass(frozen=True)
class Evaluation:
    """Frames of POLICY_DECISIONS, POLICY_METRICS and POLICY_EQUITY (empty without the sequential run)."""

    decisions: pd.DataFrame
    metrics: pd.DataFrame
    equity: pd.DataFrame


def evaluate_adapter(
    *,
    adapter_dir: Path,
    model_params: ModelParams,
    candidates: pd.DataFrame,
    candles: Candles,
    fine_candles: Candles,
    markets: Sequence[Market],
    split_params: SplitParams,
    render: RenderParams,
    option_params: OptionParams,
    backtest_params: BacktestParams,
    params: EvaluationParams,
    boundaries: Boundaries | None = None,
    quotes: pd.DataFrame | None = None,
    guests: Sequence[Guest] = (),
) -> Evaluation:
    """Score adapter and base model on test steps and, where asked, run all policies over the test stretch.

    `candidates` is `candidate_dataset` of all markets; the splits are computed from it as for the corpora. Where it
    is not the very data that the corpora were built from, give the `boundaries` of those. `guests` are judged too.
    """
    boundaries = boundaries or split_boundaries(candidates["decision_time"], split_params)
    steps = held_out_steps(candidates, split_params=split_params, boundaries=boundaries, params=params)
    if not steps:
        raise ValueError(
            f"no held-out steps between {boundaries['test']} and {boundaries['sealed']}; use more data"
        )
    asked = [s.step for s in steps]
    # Guests first: one that cannot be asked says so before the models have worked for minutes.
    choices = {guest.name: _in_batches(guest, params.batch_size, asked) for guest in guests}
    models = language_models(adapter_dir, model_params, render, params, slopes=recorded_slopes(candidates))
    choosers: dict[str, Chooser] = {name: partial(_by_rule, rule) for name, rule in RULES.items()}
    for policy in models:
        choosers[policy.name] = partial(_in_batches, policy, params.batch_size)
    choosers |= {name: partial(_as_chosen, made) for name, made in choices.items()}
    decisions = evaluate_held_out(steps, candidates, choosers)
    others = [policy.name for policy in models if policy.name != ADAPTER]
    metrics = [
        decision_metrics(decisions, candidates),
        mean_intervals(decisions, candidates, params=params),
        paired_differences(
            decisions,
            candidates,
            policy=ADAPTER,
            against=[*others, *(g.name for g in guests), *RULES, TEACHER],
            params=params,
        ),
    ]
    metrics += [answer_kinds(p.name, asked, p.choose(asked)) for p in models if isinstance(p, FreeTextPolicy)]
    equity = pd.DataFrame()
    if params.sequential:
        results = run_policies(
            [
                *(p for p in models if p.name in (ADAPTER, BASE)),
                *guests,
                *_rule_policies(backtest_params, params),
            ],
            markets=markets,
            candles=candles,
            fine_candles=fine_candles,
            boundaries=boundaries,
            exit_styles=params.exit_styles,
            option_params=option_params,
            params=backtest_params,
            quotes=quotes,
        )
        equity = equity_frame(results, until=boundaries["sealed"])
        metrics.append(book_metrics(results, equity))
    metrics += [guest.own_metrics() for guest in guests]  # last: the backtest asks them too
    return Evaluation(decisions, pd.concat(metrics, ignore_index=True), equity)


def _rule_policies(backtest_params: BacktestParams, params: EvaluationParams) -> list[Policy]:
    teacher = TeacherPolicy(backtest_params.score_threshold)
    return [teacher, NeverPolicy(), AlwaysPolicy(), RandomPolicy(params.seed)]


def language_models(
    adapter_dir: Path,
    model_params: ModelParams,
    render: RenderParams,
    params: EvaluationParams,
    *,
    slopes: Mapping[tuple[str, pd.Timestamp], float],
) -> list[ModelPolicy]:
    """Adapter and untuned base model as policies; where both ways of answering are asked for, each in both."""
    from trader_pipeline.evaluation.free_text import generate_answers
    from trader_pipeline.evaluation.scoring import score_answers
    from trader_pipeline.training.models import load_adapter, load_base_model

    loaded: Mapping[str, Any] = {
        ADAPTER: load_adapter(adapter_dir, model_params),
        BASE: load_base_model(model_params),
    }
    sizes: dict[str, Any] = {"batch_size": params.batch_size, "dtype": model_params.dtype}
    own: dict[str, Any] = {"render": render, "seed": params.seed, "slopes": slopes}
    scored: list[ModelPolicy] = [
        LanguageModelPolicy(
            name=name, scorer=partial(score_answers, *model, **sizes), shuffles=params.shuffles, **own
        )
        for name, model in loaded.items()
    ]
    if params.answering == "score":
        return scored
    suffix = FREE_TEXT if params.answering == "both" else ""
    writers = {
        name: partial(generate_answers, *model, max_new_tokens=params.max_new_tokens, **sizes)
        for name, model in loaded.items()
    }
    written: list[ModelPolicy] = [
        FreeTextPolicy(name=name + suffix, writer=partial(_read_texts, write), **own)
        for name, write in writers.items()
    ]
    return [*scored, *written] if params.answering == "both" else written


def _read_texts(
    write: Callable[..., Sequence[FreeAnswer]], prompts: list[tuple[str, str]], allowed: list[list[str]]
) -> list[ParsedAnswer]:
    return [answer.parsed for answer in write(prompts, allowed)]


def _by_rule(rule: Callable[[PromptStep], Choice], steps: Sequence[PromptStep]) -> list[Choice]:
    return [rule(step) for step in steps]


def _as_chosen(choices: Sequence[Choice], _: Sequence[PromptStep]) -> Sequence[Choice]:
    return choices


def _in_batches(policy: ModelPolicy | Guest, size: int, steps: Sequence[PromptStep]) -> list[Choice]:
    choices: list[Choice] = []
    with tqdm(total=len(steps), desc=f"{policy.name}, held-out steps", unit="step", disable=None) as bar:
        for start in range(0, len(steps), size):
            choices += policy.choose(steps[start : start + size])
            bar.update(len(choices) - bar.n)
    return choices
