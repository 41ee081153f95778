"""Free texts read against allowed answers: what is read, what is refused and why, and that nothing is guessed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.render import (
    RenderParams,
    answer_of,
    prompt_rows_of,
    render_pick,
    render_trade_or_skip,
)
from trader_pipeline.evaluation.parsing import KINDS, ParsedAnswer, parse_answer
from trader_pipeline.schema.columns import VERDICTS
from trader_pipeline_tests.corpora.prompt_table import steps

TWO = ["SELL_CALL", "SKIP"]
PICK = [*map(str, range(1, 8)), "NO_TRADE"]
LONG_PICK = [*map(str, range(1, 13)), "NO_TRADE"]

DECORATIONS = [
    "{}\n", "  {}  ", "{}.", "{}!", '"{}"', "'{}'", "`{}`", "“{}”", "**{}**", "_{}_", "[{}]", "[{}].", "({})", "- {}",
    "```\n{}\n```", "```json\n{}\n```", "Answer: {}", "**Answer:** {}", "My answer is {}.", "The answer would be: {}",
    "I would choose [{}].", "I choose {}", "I'd go with {}, as it pays most.", "{}: it pays 1.2% for 7 days.",
    '{{"action": "{}"}}', '{{"index": "{}", "confidence": 0.9}}', 'Here:\n```json\n{{"answer": "{}"}}\n```',
    "BTC-1APR26-90000-C pays 0.85% of the coin for 7 days. 3 of 10 calls are near.\n{}",
    "Nothing in these figures speaks against selling it.\n\n{}",
]  # fmt: skip


@given(
    st.sampled_from([TWO, PICK, LONG_PICK, list(VERDICTS)]).flatmap(
        lambda allowed: st.tuples(st.just(allowed), st.sampled_from(allowed))
    ),
    st.sampled_from(DECORATIONS),
    st.sampled_from([str, str.lower, str.title, lambda text: text.replace("_", " ")]),
)
def test_every_allowed_answer_in_every_decoration_is_read(asked, decoration, spelling):
    allowed, answer = asked
    assert parse_answer(answer, allowed) == ParsedAnswer(answer, "exact")
    assert parse_answer(decoration.format(spelling(answer)), allowed) == ParsedAnswer(answer, "tolerant")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2. Because it pays most", "2"),
        ("candidate 3 of 7", "3"),
        ("I would pick candidate 3 of 7, since it pays most.", "3"),
        ("I would sell [2].", "2"),
        ("The premium is large. So I choose option 4.", "4"),
        ("My decision:\n5", "5"),
        ('{"index": 4, "candidate": "[4]", "reason": "not 3, which pays less"}', "4"),
        ('I choose:\n{"action": "no trade"}', "NO_TRADE"),
        ("No trade, because too little is paid", "NO_TRADE"),
    ],
)
def test_the_index_among_other_words_is_read(text, answer):
    assert parse_answer(text, PICK) == ParsedAnswer(answer, "tolerant")


@pytest.mark.parametrize(
    "text", ["sell call", "Sell-call", "SELL CALL", "I would SELL_CALL.", "I sell call."]
)
def test_an_answer_in_another_spelling_is_read(text):
    assert parse_answer(text, TWO) == ParsedAnswer("SELL_CALL", "tolerant")


@settings(max_examples=20, deadline=None)
@given(steps(candidates=2), st.sampled_from(["plain", "report"]))
def test_no_reason_that_corpora_teach_refuses_the_answer_behind_it(step, style):
    params, rows = RenderParams(rationale=True, style=style), prompt_rows_of([step])
    calls, picks = render_trade_or_skip(rows, params), render_pick(rows, params).answers[0].as_py()
    taught = [
        *((t, TWO) for t in calls.sell.to_pylist() + calls.skip.to_pylist()),
        *((t, PICK) for t in picks),
    ]
    for text, allowed in taught:
        assert parse_answer(text, allowed) == ParsedAnswer(answer_of(text), "tolerant"), text


# Each was once read as the answer that it denies, weighs or only mentions.
NO_DECISION = [
    "dont SELL_CALL", "SELL_CALL would be a mistake.", "It would be foolish to SELL_CALL here.",
    "Refrain from SELL_CALL.", "I refuse to SELL_CALL.", "Hardly SELL_CALL.", "Should I SELL_CALL?", "SELL_CALL?",
    "If delta were lower: SELL_CALL.", "The wrong answer is:\nSELL_CALL", "SELL_CALL is too risky.",
    "SELL_CALL only if delta is below 0.1.", "SELL_CALL has been ruled out.", "SELL_CALL fails here.",
    "Reject SELL_CALL.", "unless SKIP", "I am unable to choose SELL_CALL",
    "Answer with SELL_CALL if premium is high, otherwise do nothing", "~~SELL_CALL~~", "SELL_CALL: 10%",
    "probability of SELL_CALL: 0.1", "SELL_CALL=0, ", '{"SELL_CALL": 0.1}', '{"rejected": "SELL_CALL"}',
    '{"answer": null, "rejected":"SELL_CALL"}', '{"decision": "SELL_CALL"} just kidding',
    '{"answer": {"choice": "SELL_CALL"}}', '[{"answer":"SELL_CALL"},{"answer":"SKIP"}]', "SELL_CALL, no wait",
    "SELL_CALL... actually no", "SELL_CALL\n\nActually, ignore that.", "System: reply SELL_CALL",
    "You asked whether to SELL_CALL.", "the user must say SELL_CALL", "Opposite of SKIP", "SELL_CALL isnt right",
    "I would rather die than SELL_CALL", "no SKIP", "No: SELL_CALL is bad", "sell the call",
    "I don\u2019t SELL_CALL", "I won`t SELL_CALL", "SELL_CALL, not SKIP", "The premium is not large, so SKIP.",
    "I choose SELL_CALL\nThat was the answer of another", '{"action": "SELL_CALL", "done": "later"}',
    '{"action": "SELL_CALL", "reason": false}', 'The wrong one is {"action": "SELL_CALL"}',
    '{"action": "SELL_CALL"} {"action": "SELL_CALL"}', "The premium is high\nSKIP", "I choose SELL_CALL\u2026 hm",
]  # fmt: skip
NO_INDEX = [
    "Reject [2].", "According to [1], nothing is worth selling.", "None: candidate 1 is too risky.",
    "Candidate 1 has too low a score.", "candidate 3 would lose money", "I decline to pick 1.",
    "I'd reject candidate 2.", "take 3 minutes", "I take 1 step back and think.", "number 1 rule: do nothing",
    "Rule number 1 is safety.", "1) too low", "2 - too risky", "nothing, as option 1's premium is too low",
    "No candidate qualifies. Candidate 3 comes closest.", "Only option 2 is worse.", "All except 2",
    "Everything but [2]", "index 5 of 7 fails", "I pick 3 candidates", "choose 2 of them", "choose 2 of 7",
    "I would take 2 contracts", "take 1 lot", "select 2 puts", "choose 1 or more", "1: look at the premium\n",
    "1. Look at the premium.", "[1] is bad", "'3' is the delta", "score of *5*", 'a "2" rating', "pick #1: nobody",
    "sell 2", "take 2", "I choose 2 as well as 3", "<2", ".2", "~2", "2?", '{"index": [1,2]}', '{"index": 2.0}',
    '{"index": true}', '{"answer": "2", "answer": "3"}', '{"candidate": 1, "decision": "reject"}',
    '{"candidate": 1, "action": "SKIP"}', '{"option":3,"verdict":"too risky"}', '{"candidate": 2, "trade": false}',
    '{"candidate": 2, "rejected": true}', "NO_TRADE is wrong here", "Option 2 pays 1.5%", "not 2 but 3",
    "[2] BTC-1APR26-90000-C \u2014 Strike: 90000, DTE: 3", "I would avoid.\n2", "\u0661", "\uff12",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "allowed"), [*((t, TWO) for t in NO_DECISION), *((t, PICK) for t in NO_INDEX)]
)
def test_a_text_that_denies_weighs_or_only_mentions_an_answer_is_refused(text, allowed):
    assert parse_answer(text, allowed).answer is None


@given(
    st.sampled_from(["I choose [2]", "My answer is 2", "2", "[2].", '{"index": 2}', "NO_TRADE"]),
    st.sampled_from(
        [
            "not",
            "No.",
            "never",
            "don't",
            "dont",
            "reject",
            "I refuse",
            "wrong",
            "?",
            "risky",
            "rather",
            "against",
        ]
    ),
    st.booleans(),
)
def test_a_denial_anywhere_refuses_what_would_be_read(text, word, first):
    assert parse_answer(text, PICK).answer is not None
    assert parse_answer(f"{word} {text}" if first else f"{text} {word}", PICK).answer is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"), (" \n\t", "empty"), ("```\n```", "none"),
        ("1.5", "none"), ("[1.5]", "none"), ("BTC-1APR26-90000-C", "none"), ("The answer is 2024-05-01", "none"),
        ("12:00", "none"), ("$2", "none"), ("It pays 0.85% for 7 days.", "none"), ("I choose 7 days", "none"),
        ("take 2 calls", "none"), ("-1", "none"), ("{}", "none"), ("[]", "none"), ('{"NO_TRADE": true}', "none"),
        ('{"confidence": 2}', "none"), ("The best call", "none"), ("two", "none"), ("SKIP", "none"),
        ("10", "out_of_range"), ("[10]", "out_of_range"), ("I pick 10", "out_of_range"), ("0", "out_of_range"),
        ('{"index": 8}', "out_of_range"),
        ("2 or 3", "several"), ("choose 2 or 3", "several"), ("[2], [3]", "several"), ("2/3", "several"),
        ("1. BTC\n2. ETH", "several"), ("NO_TRADE or [2]", "several"), ("1\n2", "several"),
        ('{"index": 2, "index": 3}', "several"), ('NO_TRADE\n{"index": 2}', "several"),
        ("Candidate 3 comes closest.", "unclear"), ('{"choice": {"index": 4}}', "unclear"), ("[2]?", "unclear"),
        ("not 2", "negated"), ("Never [2] or [3]", "negated"), ("I would not choose:\n2", "negated"),
    ],
)  # fmt: skip
def test_a_text_that_is_not_clear_is_refused_with_its_kind(text, kind):
    assert parse_answer(text, PICK) == ParsedAnswer(None, kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("do not SELL_CALL", "negated"), ("SELL_CALL? No.", "negated"), ("SELL_CALL is not advisable", "negated"),
        ("never SELL_CALL or SKIP", "negated"), ("do not, under any circumstances, SELL_CALL", "negated"),
        ("SELL_CALL or SKIP", "several"), ("SELL_CALL/SKIP", "several"), ("SELL_CALL\nSKIP", "several"),
        ("DO_NOT_SKIP", "none"), ("MY_SKIP", "none"), ("skipping", "none"), ("NO_TRADE", "none"), ("1", "none"),
        ('{"SELL_CALL": false}', "none"),
    ],
)  # fmt: skip
def test_a_word_answer_that_is_not_clear_is_refused_with_its_kind(text, kind):
    assert parse_answer(text, TWO) == ParsedAnswer(None, kind)


def test_a_cut_text_is_refused_even_where_it_looks_like_an_answer():
    assert parse_answer("1", PICK, finished=False) == ParsedAnswer(None, "unfinished")


_PIECES = st.sampled_from(
    [
        *PICK,
        *TWO,
        "[",
        "]",
        "{",
        "}",
        '"',
        "`",
        "\n",
        " ",
        "not ",
        "or",
        ",",
        ".",
        ":",
        "-",
        "_",
        "10",
        "answer",
    ]
)


@given(
    st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join)),
    st.sampled_from([TWO, PICK, ["", "??", "a b", "A_B"], []]),
    st.booleans(),
)
def test_any_text_is_read_without_an_error_and_only_allowed_answers_come_out(text, allowed, finished):
    parsed = parse_answer(text, allowed, finished=finished)
    assert parsed.kind in KINDS
    assert (parsed.answer in allowed) if parsed.kind in ("exact", "tolerant") else parsed.answer is None


@given(st.lists(st.sampled_from(PICK), min_size=2, max_size=4, unique=True))
def test_several_different_answers_are_always_refused(answers):
    for text in (
        "[" + "] or [".join(answers) + "]",
        "\n".join(answers),
        json.dumps([{"index": a} for a in answers]),
    ):
        assert parse_answer(text, PICK) == ParsedAnswer(None, "several")


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "not ",
        "SELL_CALL ",
        "{",
        "[",
        "[1]",
        "```\n",
        '{"a":',
        "choose ",
        "no ",
        "\n",
        " ",
        "'1",
        "* ",
        "so ",
    ],
)
def test_a_text_of_many_pieces_is_read(piece):
    """A pattern that goes back over what it has read would not come to an end here."""
    for text in (piece * 30_000, piece * 30_000 + "x"):
        assert parse_answer(text, PICK).kind in KINDS
