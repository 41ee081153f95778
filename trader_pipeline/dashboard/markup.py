"""HTML that the server writes itself, for parts of many cells: a component a cell costs the browser a second a table.

Belongs here: `element`, the only place where text becomes HTML, and it escapes all of it. Does not belong here: what a
table holds (`data_table`), anything else: components of Dash do.
"""

from __future__ import annotations

from html import escape

_SAFE_STARTS = ("http://", "https://")


class Html(str):
    """Markup that `element` wrote; every other text is escaped where it meets one."""

    __slots__ = ()


def element(tag: str, *inner: str, **attributes: str | int | bool | None) -> Html:
    """`<tag attributes>inner</tag>`. Inner text and values of attributes are escaped, unless a part is `Html`.

    Args:
        tag: written in code, never from data.
        attributes: names as in code: `class_`, `aria_label`; None or False leaves one out.

    Raises:
        ValueError: an `href` that is neither a path of this dashboard nor a web address.
    """
    address = attributes.get("href")
    if address is not None and not leads_somewhere(str(address)):
        raise ValueError(f"{str(address)[:80]!r} is no address to link to")
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{"" if value is True else escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{written}>" if tag == "wbr" else f"<{tag}{written}>{joined(*inner)}</{tag}>")


def joined(*parts: str) -> Html:
    """Parts one after the other; what is not `Html` is escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def leads_somewhere(address: str) -> bool:
    """Whether a link may lead there: a path of this dashboard, or a web address; no script."""
    if address.startswith("/"):
        return not address.startswith(("//", "/\\"))
    return address.lower().startswith(_SAFE_STARTS)
