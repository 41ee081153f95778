"""Free texts read against allowed answers: what is read, what is refused and why, and that nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.evaluation.parsing import KINDS, ParsedAnswer, parse_answer
from trader_pipeline.schema.columns import VERDICTS

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
        ("Option 2 pays 1.5%", "2"),
        ("candidate 3 of 7", "3"),
        ("[2] BTC-1APR26-90000-C — Strike: 90000, DTE: 3", "2"),
        ("candidate 2, 14 days to expiry", "2"),
        ('{"choice": {"index": 4}}', "4"),
        ("not 2 but 3", "3"),
        ("I would not choose [1]. [2] is best.", "2"),
        ("No trade, because not enough is paid", "NO_TRADE"),
    ],
)
def test_the_index_among_other_words_is_read(text, answer):
    assert parse_answer(text, PICK) == ParsedAnswer(answer, "tolerant")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The premium is not large, so SKIP.", "SKIP"),
        ("No, SKIP", "SKIP"),
        ("Don't SELL_CALL; SKIP", "SKIP"),
        ("SELL_CALL, not SKIP", "SELL_CALL"),
        ("SKIP rather than SELL_CALL", "SKIP"),
        ("I could SELL_CALL here, but the premium is small.\nSKIP", "SKIP"),
        ('{"action": "SELL_CALL", "reason": "to SKIP is worse"}', "SELL_CALL"),
    ],
)
def test_an_answer_that_is_denied_or_weighed_does_not_hide_the_one_given(text, answer):
    assert parse_answer(text, TWO) == ParsedAnswer(answer, "tolerant")


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
