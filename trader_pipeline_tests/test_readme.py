"""What the README shows works as printed."""

import re
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), flags=re.DOTALL)


def test_example_of_a_policy_prints_its_figures_and_the_teachers(capsys):
    first, policy = examples("docs/backtest.md")
    assert "run_backtest" in first
    exec(policy, {"__name__": "example"})
    assert capsys.readouterr().out.count("return_vs_hodl_pct") == 2


def test_example_of_a_sweep_has_a_row_a_setting_and_exit_style():
    (code,) = examples("docs/engine.md")
    names: dict[str, object] = {"__name__": "example"}
    exec(code, names)
    assert len(names["table"]) == 12


@pytest.mark.parametrize("page", ["README.md", "docs/backtest.md"])
def test_python_example_runs_and_prints_figures_of_both_exit_styles(page, capsys):
    names: dict[str, object] = {"__name__": "example"}
    exec(examples(page)[0], names)
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
    wanted = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    names = {re.split(r"[<>=\[]", d)[0] for d in wanted}
    table = (REPOSITORY / "docs" / "architecture.md").read_text().split("## Dependencies")[1]
    listed = set(
        re.findall(
            r"[A-Za-z][A-Za-z0-9-]+",
            "\n".join(r.split("|")[1] for r in table.splitlines() if r.startswith("|")),
        )
    )
    assert names - listed == set()
