"""Models as policies: the same prompts at inference as in the corpora, and choices that order cannot change."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import run_backtest
from trader_pipeline.corpora import CorpusParams, RenderParams, build_pick_candidate_corpus
from trader_pipeline.corpora.steps import prompt_steps
from trader_pipeline.evaluation.held_out import (
    decision_metrics,
    evaluate_held_out,
    held_out_steps,
    mean_intervals,
    paired_differences,
)
from trader_pipeline.evaluation.overview import verdicts
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.evaluation.policies import RULES, LanguageModelPolicy, recorded_slopes
from trader_pipeline.evaluation.sequential import book_metrics, equity_frame, run_policies
from trader_pipeline.schema.columns import NO_TRADE


def model(prefers, name="model", shuffles=3):
    """A policy whose scorer gives the answer on the line that holds `prefers` the highest log-probability."""
    prompts_seen = []

    def scorer(prompts, answers):
        prompts_seen.extend(prompts)
        scores = []
        for (_, user), allowed in zip(prompts, answers, strict=True):
            lines = [line for line in user.splitlines() if line.lstrip().startswith("[")]
            scores.append(
                np.array([-0.1 if a.isdigit() and prefers in lines[int(a) - 1] else -5.0 for a in allowed])
            )
        return scores

    policy = LanguageModelPolicy(name=name, scorer=scorer, render=RenderParams(), shuffles=shuffles)
    return policy, prompts_seen


@pytest.fixture
def steps(world):
    params = EvaluationParams(max_steps=20)
    return held_out_steps(
        world.dataset, split_params=world.splits, boundaries=world.boundaries, params=params
    )


def choosers(policy):
    return {policy.name: policy.choose, **{n: lambda s, r=r: [r(x) for x in s] for n, r in RULES.items()}}


def test_choice_follows_the_instrument_and_not_its_position(steps):
    step = steps[0].step
    for candidate in step.candidates:
        policy, prompts = model(candidate.instrument)
        (choice,) = policy.choose([step])
        assert choice.instrument == candidate.instrument
        assert choice.log_probability == pytest.approx(-0.1)
        assert len({user for _, user in prompts}) == 3, "every shuffle shows another order"


def test_choice_does_not_depend_on_the_order_in_which_the_candidates_come(world):
    """A scorer that looks at nothing but the position: its answer changes with the shuffles, not with the input."""

    def first(prompts, answers):
        return [np.array([-0.1 if a == "1" else -5.0 for a in allowed]) for allowed in answers]

    def choices(dataset):
        policy = LanguageModelPolicy("first", first, RenderParams(), shuffles=4)
        return policy.choose([s.step for s in prompt_steps(dataset)][:30])

    assert choices(world.dataset) == choices(world.dataset.iloc[::-1])


def test_model_that_prefers_no_trade_answers_none(steps):
    def declines(prompts, answers):
        return [np.array([-0.1 if a == NO_TRADE else -5.0 for a in allowed]) for allowed in answers]

    policy = LanguageModelPolicy("declines", declines, RenderParams())
    assert {c.instrument for c in policy.choose([s.step for s in steps])} == {None}


def test_a_step_without_candidates_is_answered_without_a_prompt(steps):
    policy, prompts = model("BTC", shuffles=1)
    empty = replace(steps[0].step, candidates=())
    choices = policy.choose([empty, steps[1].step])
    assert choices[0].instrument is None
    assert choices[1].instrument is not None
    assert len(prompts) == 1


def test_a_step_is_scored_once(steps):
    policy, prompts = model("BTC", shuffles=2)
    policy.choose([s.step for s in steps])
    policy.choose([s.step for s in steps])
    assert len(prompts) == 2 * len(steps)


@pytest.mark.parametrize("style", ["plain", "report"])
def test_prompts_at_inference_are_those_of_the_corpus(world, style):
    """The sequential backtest renders from candles, the corpus from the dataset: the texts must be the same."""
    policy, prompts = model("-C", shuffles=1)
    policy.seed = 0  # the corpus's first order
    policy.render = RenderParams(style=style)
    dataset = world.dataset.assign(term_structure_slope=0.021)  # as if the chain were recorded
    policy.slopes = recorded_slopes(dataset)
    run_backtest(
        klines=world.candles,
        fine_klines=world.candles,
        market=world.market,
        start=world.boundaries["test"],
        end=world.boundaries["test"] + pd.Timedelta(days=40),
        option_params=world.option_params,
        params=world.params,
        policy=policy,
        mode="sequential",
        exit_styles=("hold_to_expiry",),
    )
    corpus = build_pick_candidate_corpus(
        dataset,
        boundaries=world.boundaries,
        split_params=world.splits,
        params=policy.render,
        corpus_params=CorpusParams(balance="none"),
    )
    texts = set(corpus["system"] + "\n" + corpus["user"])
    assert len(prompts) >= 2
    assert {f"{s}\n{u}" for s, u in prompts} <= texts


def test_held_out_steps_do_not_depend_on_how_early_a_trade_ended(world, steps):
    params = EvaluationParams(exit_styles=(steps[0].step.exit_style,), max_steps=10**6)
    given = {"split_params": world.splits, "boundaries": world.boundaries, "params": params}
    soon = world.dataset.assign(label_end_time=world.dataset["decision_time"] + pd.Timedelta(hours=1))
    kept = [s.step.decision_time for s in held_out_steps(world.dataset, **given)]
    assert [s.step.decision_time for s in held_out_steps(soon, **given)] == kept


def test_held_out_steps_lie_in_the_test_split_and_their_labels_end_before_the_sealed_stretch(world, steps):
    assert 0 < len(steps) <= 20
    for labelled in steps:
        assert world.boundaries["test"] <= labelled.step.decision_time < world.boundaries["sealed"]
        assert labelled.label_end_time < world.boundaries["sealed"]


def test_teacher_is_always_right_oracle_is_never_beaten_and_hodl_makes_nothing(world, steps):
    policy, _ = model("-C")
    decisions = evaluate_held_out(steps, world.dataset, choosers(policy))
    by_policy = decisions.groupby("policy")
    assert by_policy.get_group("teacher")["correct"].eq(1).all()
    assert by_policy.get_group("never (HODL)")["pnl_vs_hodl"].eq(0).all()
    wide = decisions.pivot(index="decision_time", columns="policy", values="pnl_vs_hodl")
    assert (wide.le(wide["oracle (hindsight)"] + 1e-9, axis=0)).all().all()
    one = decisions[(decisions["policy"] == "model") & (decisions["choice"] != NO_TRADE)].iloc[0]
    row = world.dataset.query(
        "decision_time == @one.decision_time and instrument == @one.choice and exit_style == @one.exit_style"
    )
    assert one["pnl_vs_hodl"] == row["pnl_vs_hodl_if_sold"].item()


def test_metrics_and_verdicts_say_tied_for_equal_policies(world, steps):
    policy, _ = model("no such instrument", name="adapter")
    twin = {
        "adapter": lambda s: [RULES["never (HODL)"](x) for x in s],
        "never (HODL)": choosers(policy)["never (HODL)"],
    }
    decisions = evaluate_held_out(steps, world.dataset, twin)
    params = EvaluationParams(bootstrap_samples=100)
    paired = paired_differences(
        decisions, world.dataset, policy="adapter", against=["never (HODL)"], params=params
    )
    assert paired["value"].eq(0).all()
    (sentence,) = verdicts(paired)
    assert sentence.startswith("adapter is tied with never (HODL)")
    metrics = decision_metrics(decisions, world.dataset)
    share = len([s for s in steps if s.chosen is None]) / len(steps)
    accuracy = metrics.query("policy == 'adapter' and metric == 'accuracy' and segment == 'all'")[
        "value"
    ].item()
    assert accuracy == pytest.approx(share)


def test_interval_of_a_mean_holds_it_and_widens_with_its_confidence(world, steps):
    policy, _ = model("no such instrument", name="adapter")
    decisions = evaluate_held_out(steps, world.dataset, choosers(policy))
    metrics = decision_metrics(decisions, world.dataset)
    narrow, wide = (
        mean_intervals(
            decisions, world.dataset, params=EvaluationParams(bootstrap_samples=200, confidence=level)
        ).set_index(["policy", "segment", "exit_style", "metric"])["value"]
        for level in (0.6, 0.99)
    )
    means = metrics[metrics["metric"] == "mean_pnl_vs_hodl_pct"]
    assert len(narrow) == 2 * len(means) > 0
    spread = 0
    for row in means.itertuples():
        at = (row.policy, row.segment, row.exit_style)
        low, high = (wide[(*at, f"mean_pnl_vs_hodl_pct_{side}")] for side in ("low", "high"))
        inner_low, inner_high = (narrow[(*at, f"mean_pnl_vs_hodl_pct_{side}")] for side in ("low", "high"))
        assert low <= inner_low <= inner_high <= high
        assert low <= row.value <= high or row.value == pytest.approx(low)
        spread += high > low
    assert spread, "no policy's figure varies: nothing was tested"


def test_sequential_books_start_with_the_coin_and_never_is_hodl(world):
    from trader_pipeline.backtest import NeverPolicy, TeacherPolicy

    results = run_policies(
        [TeacherPolicy(world.params.score_threshold), NeverPolicy()],
        markets=[world.market],
        candles={"BTC_1h": world.candles},
        fine_candles={"BTC_1h": world.candles},
        boundaries=world.boundaries,
        exit_styles=("hold_to_expiry",),
        option_params=world.option_params,
        params=world.params,
    )
    equity = equity_frame(results, until=world.boundaries["sealed"])
    assert equity["close_time"].min() >= world.boundaries["test"]
    assert equity["close_time"].max() <= world.boundaries["sealed"]
    assert all(r.steps["decision_time"].min() >= world.boundaries["test"] for r in results)
    assert all(r.steps["decision_time"].max() < world.boundaries["sealed"] for r in results)
    assert equity.groupby("policy")["close_time"].max().nunique() == 1
    never = equity[equity["policy"] == "never"]
    np.testing.assert_allclose(never["equity_usd"], never["hodl_usd"])
    metrics = book_metrics(results, equity).set_index(["policy", "metric"])["value"]
    assert metrics["never", "book_pnl_vs_hodl_pct"] == pytest.approx(0)
    assert metrics["never", "book_trades"] == 0
    assert metrics["teacher", "book_trades"] > 0


def test_labels_never_reach_the_policy(world):
    """Outcome columns of the dataset are changed: the steps that policies see stay the same."""
    outcomes = ["reward", "pnl_vs_hodl", "max_drawdown_pct", "reward_if_sold", "pnl_vs_hodl_if_sold"]
    changed = world.dataset.copy()
    changed[outcomes] = changed[outcomes] * -3 + 17
    assert [s.step for s in prompt_steps(changed)] == [s.step for s in prompt_steps(world.dataset)]
