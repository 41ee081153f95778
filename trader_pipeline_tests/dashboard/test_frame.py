"""The frame around every page: routing, errors as sentences, links that hold the state, and who is answered."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.app import create_app
from trader_pipeline.dashboard.page import (
    BadChoiceError,
    Context,
    Page,
    chosen,
    href,
    moment,
    number,
    read_state,
)
from trader_pipeline.dashboard.pages import PAGES
from trader_pipeline.dashboard.routing import lay_out
from trader_pipeline.profile import Profile
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.reading import components


def text_of(component: Any) -> str:
    """The component as its JSON: what is in it, wherever."""
    return json.dumps(component, default=lambda c: c.to_plotly_json(), ensure_ascii=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.path)
def test_a_page_without_any_table_says_what_to_do(page: Page, empty_context: Context) -> None:
    title, content = lay_out(PAGES, page.path, "", empty_context)
    shown = text_of(content)
    assert title == page.title
    assert "trader-pipeline " in shown
    assert '"problem"' not in shown


def test_pages_have_titles_and_paths_of_their_own() -> None:
    assert len({p.path for p in PAGES}) == len({p.title for p in PAGES}) == len(PAGES)
    assert all(p.summary for p in PAGES)


def test_a_page_that_fails_is_a_sentence_and_not_a_blank(empty_context: Context) -> None:
    def fail(state: Any, context: Context) -> Any:
        raise RuntimeError("the disk is gone")

    _, content = lay_out([Page("/bad", "Bad", fail)], "/bad", "", empty_context)
    shown = text_of(content)
    assert "the disk is gone" in shown
    assert "The other pages work" in shown


def test_an_address_that_leads_nowhere_lists_the_pages(empty_context: Context) -> None:
    title, content = lay_out(PAGES, "/candels", "", empty_context)
    assert title == "No such page"
    assert all(p.path in text_of(content) for p in PAGES)


def test_an_unknown_choice_names_the_known_ones(context: Context) -> None:
    _, content = lay_out(PAGES, "/market", "?market=XRP_1h", context)
    assert "market 'XRP_1h' is not known here; choose one of BTC_1h" in text_of(content)


def test_a_state_survives_its_address() -> None:
    address = href("/market", {"market": "BTC_1h", "page": "3"}, page=None, note="a&b=c", empty="")
    assert read_state(address.partition("?")[2]) == {"market": "BTC_1h", "note": "a&b=c"}


@pytest.mark.parametrize("text", ["yesterday", "0021-01-01", "2021-13-01"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(BadChoiceError, match="write YYYY-MM-DD"):
        moment({"from": text}, "from")


def test_choices_and_numbers_have_bounds() -> None:
    assert chosen({}, "bar", ["a", "b"], "b") == "b"
    assert number({"page": "4"}, "page", 1) == 4
    for text in ("0", "-1", "--5", "x", "1e3", "²", "٣", "9" * 5_000, "-"):
        with pytest.raises(BadChoiceError):
            number({"page": text}, "page", 1)


def test_a_sort_link_starts_from_the_largest_and_drops_the_page() -> None:
    frame = pd.DataFrame({"value": [1.0], "name": ["<b>x</b>"]})

    def links(state: dict[str, str]) -> list[str]:
        table = parts.data_table(
            frame, caption="c", state=state, path="/p", page=2, pages=3, sortable=["value"]
        )
        return [link.href for link in components(table, "Link")]

    assert "/p?sort=-value" in links({"page": "2"})
    assert "/p?sort=value" in links({"sort": "-value"})
    assert "/p?page=3" in links({"page": "2"})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (float("nan"), "–"), (True, "yes"), (12345.6, "12,346"), (0.123456, "0.1235"), (1234, "1,234"),
        (pd.Timestamp("2021-01-02", tz="UTC"), "2021-01-02"),
        (pd.Timestamp("2021-01-02 03:04", tz="UTC"), "2021-01-02 03:04"),
    ],
)  # fmt: skip
def test_values_are_shown_as_people_write_them(value: Any, shown: str) -> None:
    assert parts.shown_value(value) == shown


def test_midnight_keeps_its_hour_beside_other_hours() -> None:
    times = pd.DatetimeIndex(["2021-01-02", "2021-01-02 03:04"], tz="UTC")
    mixed = parts.data_table(pd.DataFrame({"at": times}), caption="c")
    assert [c.children for c in components(mixed, "Td")] == [["2021-01-02 00:00"], ["2021-01-02 03:04"]]
    days = parts.data_table(pd.DataFrame({"at": times.normalize()}), caption="c")
    assert [c.children for c in components(days, "Td")] == [["2021-01-02"], ["2021-01-02"]]


@pytest.fixture(scope="module")
def client(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return create_app(profile, data_root=tmp_path_factory.mktemp("none")).server.test_client()


def test_the_document_loads_nothing_from_elsewhere(client: Any) -> None:
    document = client.get("/", headers={"Host": "127.0.0.1:8050"})
    sources = re.findall(r'(?:src|href)="([^"]+)"', document.text)
    assert len(sources) > 5
    assert all(s.startswith(("/", "data:,")) and not s.startswith("//") for s in sources)
    assert "default-src 'self'" in document.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1", "Origin": "https://evil.example"},
        {"Host": "", "Origin": "null"},
        {"Host": "127.0.0.1", "Origin": "http://[::1"},
        {"Host": "[::1"},
    ],
)
def test_foreign_names_and_pages_are_refused(client: Any, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "name", ["klines/klines/ETH_1h", "klines/window_klines/BTC_1h/copy of bull", "klines/kline_gaps/BTC_1h"]
)
def test_one_damaged_file_leaves_every_page_standing(
    small_run: Path, tmp_path: Path, profile: Profile, name: str
) -> None:
    root = Path(shutil.copytree(small_run, tmp_path / "damaged"))
    (root / f"{name}.parquet").write_bytes(b"PAR1")
    for page in PAGES:
        shown = text_of(lay_out(PAGES, page.path, "", context_of(root, profile))[1])
        assert "The other pages work" not in shown
    assert f"{root / name}.parquet" in text_of(lay_out(PAGES, "/", "", context_of(root, profile))[1])
    shown = text_of(lay_out(PAGES, "/lineage", f"?table={name.split('/')[1]}", context_of(root, profile))[1])
    assert f"{root / name}.parquet" in shown
    assert "trader-pipeline run --profile tiny" in shown
