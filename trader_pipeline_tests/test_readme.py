"""What the README shows works as printed."""

import re
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", ["README.md", "docs/backtest.md"])
def test_python_example_runs_and_prints_figures_of_both_exit_styles(page, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    printed = capsys.readouterr().out
    assert "mean_pnl_vs_hodl" in printed
    result = names["result"]
    assert set(result.steps["exit_style"]) == {"hold_to_expiry", "tp_and_roll"}
    assert result.steps["decision_time"].min() == pd.Timestamp("2021-03-01", tz="UTC")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_the_docs_point_to_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for target in re.findall(r"docs/[a-z-]+\.md", text):
        assert (REPOSITORY / target).exists(), f"{page.name} names {target}"


def test_every_dependency_has_its_reason_in_the_architecture_page():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=]", d)[0] for d in wanted}
    table = (REPOSITORY / "docs" / "architecture.md").read_text().split("## Dependencies")[1]
    listed = set(
        re.findall(
            r"[A-Za-z][A-Za-z0-9-]+",
            "\n".join(r.split("|")[1] for r in table.splitlines() if r.startswith("|")),
        )
    )
    assert names - listed == set()
