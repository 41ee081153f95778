"""Parts that come after the page: what is shown where one of them fails."""

import pytest

from trader_pipeline.dashboard.deferred import shown_or_problem
from trader_pipeline_tests.dashboard.pages_data import words_of


def failing(error: Exception):
    def show(state):
        raise error

    return show


@pytest.mark.parametrize("error", [ValueError("choose one of a, b"), FileNotFoundError("choose one of a, b")])
def test_an_error_of_the_project_is_shown_as_it_is(error):
    assert (
        words_of(shown_or_problem("part", failing(error), {})) == "This cannot be shown.  choose one of a, b"
    )


def test_any_other_error_is_named_and_points_to_the_terminal():
    shown = words_of(shown_or_problem("part", failing(KeyError("run")), {}))
    assert "KeyError: 'run'. The server's terminal has the details." in shown


def test_the_page_s_state_reaches_the_part():
    assert shown_or_problem("part", dict, {"market": "BTC_1h"}) == {"market": "BTC_1h"}
