"""Which code a run was made with: the commit of the checkout, or the installed version.

Belongs here: facts about the code. Does not belong here: facts about the data (`records`) or the settings (`params`).
"""

import subprocess
from importlib.metadata import version
from pathlib import Path

import trader_pipeline

COMMIT_TAG = "mlflow.source.git.commit"
"""MLflow's own name: its page shows it as the run's version and hides it among the tags, hence `git_commit` too."""


def code_tags() -> dict[str, str]:
    """Tags `trader_pipeline_version` and, from a checkout, `git_commit` and `git_dirty` (true: files were changed).

    A package installed into some other project's repository is not that repository's commit: its files must be tracked.
    """
    tags = {"trader_pipeline_version": version("trader-pipeline")}
    package = Path(trader_pipeline.__file__).parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return tags
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return tags
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    return {**tags, COMMIT_TAG: commit, "git_commit": commit, "git_dirty": str(changed != "").lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says in `folder`; None without git, outside a checkout, or where it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
