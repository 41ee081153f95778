"""Reading a page as a reader does: its text, its sections, its rows. For tests of layouts."""

from typing import Any


def components(tree: Any, kind: str) -> list[Any]:
    """All components of a class, from top to bottom."""
    if isinstance(tree, list | tuple):
        return [c for part in tree for c in components(part, kind)]
    own = [tree] if type(tree).__name__ == kind else []
    return own + components(list(_children(tree)), kind) if _children(tree) else own


def shown_text(tree: Any) -> str:
    """What is written in a component, without markup."""
    if isinstance(tree, list | tuple):
        return "".join(shown_text(part) for part in tree)
    return str(tree) if isinstance(tree, str | int | float) else shown_text(_children(tree))


def section(content: Any, title: str) -> Any:
    """The section under a heading."""
    (found,) = [s for s in components(content, "Section") if shown_text(s.children[0]) == title]
    return found


def body_rows(part: Any) -> list[Any]:
    """The rows of its tables, without their heads."""
    return [row for body in components(part, "Tbody") for row in components(body, "Tr")]


def _children(component: Any) -> list[Any]:
    children = getattr(component, "children", None)
    return list(children) if isinstance(children, list | tuple) else [] if children is None else [children]
