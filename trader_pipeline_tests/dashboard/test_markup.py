"""Markup that the server writes: whatever a text holds, it stays text; a link leads to a page, never to a script."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.components import Chart, Markup
from trader_pipeline.dashboard.markup import Html, element, joined
from trader_pipeline_tests.dashboard.reading import components, read_html, shown_text

HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "</td><script>",
    "&lt;b&gt;",
    "' onmouseover='x",
    '" x="',
    "<!--",
    "\0",
)
TEXT = st.one_of(
    st.text(), st.sampled_from(HOSTILE), st.tuples(st.text(), st.sampled_from(HOSTILE)).map("".join)
)


class _Tags(HTMLParser):
    """The names of all elements and attributes in some markup, comments included."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (tag, attrs) != ("wbr", []):  # a head may break at its underscores
            self.found += [tag, *(name for name, _ in attrs)]

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.found.append("declaration")


@given(TEXT, TEXT)
@example(*HOSTILE[:2])
def test_text_and_attributes_stay_text(text: str, attribute: str) -> None:
    written = element("td", element("b", text), text, class_=attribute)
    assert _Tags(written).found == ["td", "class", "b"]
    if not {"\0", "\r"} & set(text + attribute):  # which no browser keeps
        (cell,) = read_html(written)
        assert shown_text(cell) == text * 2
        assert (cell.className if attribute else "") == attribute


@given(st.lists(TEXT, min_size=3, max_size=3))
@example(list(HOSTILE[:3]))
def test_a_table_holds_the_texts_of_its_frame_and_no_other_element(words: list[str]) -> None:
    value, title, caption = words
    table = parts.data_table(
        pd.DataFrame({"a": [value]}), caption=caption, titles={"a": title}, path="/p", state={"x": value}, pages=9,
        sortable=["a"], links={"a": lambda row: "/q?of=" + row["a"]},
    )  # fmt: skip
    plain = parts.data_table(
        pd.DataFrame({"a": ["v"]}), caption="c", titles={"a": "t"}, path="/p", state={}, pages=9, sortable=["a"],
        links={"a": lambda row: "/q"},
    )  # fmt: skip
    assert _Tags(table.html).found == _Tags(plain.html).found


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:x", " javascript:x", "data:text/html,x", "//evil.example", "/\\evil"],
)
def test_a_link_leads_to_a_page_and_never_to_a_script(address: str) -> None:
    with pytest.raises(ValueError, match="is no address to link to"):
        element("a", "words", href=address)
    table = parts.data_table(pd.DataFrame({"a": ["words"]}), caption="c", links={"a": lambda row: address})
    assert not components(table, "A") + components(table, "Link")
    assert "words" in shown_text(table)


def test_links_leave_for_other_servers_without_a_referrer() -> None:
    links = {"a": lambda row: "http://127.0.0.1:5000/#/runs/1"}
    (link,) = components(parts.data_table(pd.DataFrame({"a": ["run"]}), caption="c", links=links), "A")
    assert (link.href, link.rel) == ("http://127.0.0.1:5000/#/runs/1", "noreferrer")


def test_only_what_element_wrote_is_shown_as_markup() -> None:
    with pytest.raises(TypeError, match="no other text"):
        Markup("<b>words</b>")  # type: ignore[arg-type]
    assert joined("<b>", Html("<i>")) == "&lt;b&gt;<i>"


def test_attributes_are_left_out_or_kept_by_their_value() -> None:
    assert element("td", class_=None, hidden=False, tabindex=0) == '<td tabindex="0"></td>'


def test_a_chart_takes_its_own_properties_alone() -> None:
    shown = Chart({"data": []}, id="c", height=100).to_plotly_json()
    assert shown["props"] == {"id": "c", "figure": {"data": []}, "height": 100, "zooms": False}
