"""The policy that trades: the adapter promoted to `champion` in MLflow's registry, the teacher until there is one.

Belongs here: finding, fetching and loading the champion. Does not belong here: what it takes to become one.

A registered model has the name of the profile's MLflow experiment (`trader-pipeline-sample`); its versions are adapter
folders as training leaves them (the run's artifact `adapter`). The version that bears the alias `champion` trades.
MLflow is imported inside functions: it is slow.
"""

from __future__ import annotations

import fcntl
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from trader_pipeline.backtest import DecisionStep, Policy, TeacherPolicy
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.evaluation.policies import LanguageModelPolicy
from trader_pipeline.store import file_sha256
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.tracking import TrackingParams
from trader_pipeline.training.tracking_address import SQLITE, first_line, masked, mlflow_errors

CHAMPION = "champion"
"""The alias of the version that trades."""

_WEIGHTS = "adapter_model.safetensors"


class ChampionError(ValueError):
    """The registry cannot be asked, or the champion it names cannot be used. The teacher never steps in for it."""


class Champion(NamedTuple):
    """A version of the registered model, by name, number and where its files lie."""

    model: str
    version: str
    source: str

    @property
    def model_id(self) -> str:
        """`trader-pipeline-full/3`: how its decisions are signed."""
        return f"{self.model}/{self.version}"


@dataclass
class ChampionPolicy:
    """The champion's adapter, loaded when it is first asked: most ticks of a market decide nothing."""

    name: str
    adapter_dir: Path
    model_params: ModelParams
    render: RenderParams
    params: EvaluationParams

    def decide(self, step: DecisionStep) -> str | None:
        if step.candidates.empty:
            return None
        return self.loaded.decide(step)

    @cached_property
    def loaded(self) -> LanguageModelPolicy:
        """The adapter on its base model, asked as the evaluation asks it.

        Raises:
            ChampionError: it cannot be loaded.
        """
        from trader_pipeline.evaluation.scoring import score_answers
        from trader_pipeline.training.models import load_adapter

        try:
            model = load_adapter(self.adapter_dir, self.model_params)
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            raise ChampionError(f"champion {self.name} cannot be loaded: {error}") from error
        return LanguageModelPolicy(
            name=self.name,
            scorer=partial(score_answers, *model, batch_size=self.params.batch_size),
            render=self.render,
            shuffles=self.params.shuffles,
            seed=self.params.seed,
        )


def champion_policy(
    tracking: TrackingParams,
    *,
    cache_dir: Path,
    model_params: ModelParams,
    render: RenderParams,
    params: EvaluationParams,
    score_threshold: float,
) -> tuple[Policy, str]:
    """The policy that trades and its `model_id`: the champion, or `teacher` where none was promoted.

    The champion's adapter is copied into `cache_dir` once, and its weights are checked against its manifest each time.

    Raises:
        ChampionError: MLflow does not answer, or the champion's files are missing, damaged or of another base model.
    """
    champion = find_champion(tracking)
    if champion is None:
        teacher = TeacherPolicy(score_threshold)
        return teacher, teacher.name
    folder = fetch_champion(champion, tracking, cache_dir=cache_dir)
    _refuse_other_base(champion, folder, model_params)
    policy = ChampionPolicy(champion.model_id, folder, model_params, render, params)
    return policy, policy.name


def find_champion(tracking: TrackingParams) -> Champion | None:
    """The version with the alias `champion` of the model that is named after the experiment; None where there is none.

    A SQLite database that does not exist holds none: it is not made, and MLflow is not loaded.

    Raises:
        ChampionError: MLflow does not answer.
    """
    if not _has_registry(tracking.tracking_uri):
        return None
    errors = mlflow_errors()
    try:
        client = _client(tracking)
        found = client.search_registered_models(filter_string=f"name = '{tracking.experiment}'")
        number = next((m.aliases.get(CHAMPION) for m in found), None)
        if number is None:
            return None
        source = client.get_model_version_download_uri(tracking.experiment, str(number))
    except errors as error:
        uri = tracking.tracking_uri
        mend = "Install that module" if isinstance(error, ImportError) else "Start it"
        raise ChampionError(
            f"MLflow at {masked(uri, uri)} does not say who the champion is: {first_line(error, uri)}."
            f" {mend}, or set MLFLOW_TRACKING_URI to where the registry is; nothing is ticked until then"
        ) from None  # the text of the cause may hold the password
    return Champion(tracking.experiment, str(number), source)


def fetch_champion(champion: Champion, tracking: TrackingParams, *, cache_dir: Path) -> Path:
    """The folder of the champion's adapter under `cache_dir`, copied from MLflow unless it is there already.

    Raises:
        ChampionError: the files cannot be had, or their weights are not those of their manifest.
    """
    folder = cache_dir / re.sub(r"[^A-Za-z0-9._-]", "_", champion.model) / champion.version
    origin = folder.with_name(f"{folder.name}.source")
    with _alone(folder.parent):
        if not folder.is_dir() or not origin.is_file() or origin.read_text() != champion.source:
            _copy(champion, tracking, folder)
            origin.write_text(champion.source)
    _refuse_damaged(champion, folder)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process copies, the others wait for it: the markets are ticked at the same moment."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(champion: Champion, tracking: TrackingParams, folder: Path) -> None:
    """The whole folder or nothing: it is copied beside its place and then named."""
    from mlflow.artifacts import download_artifacts

    from trader_pipeline.training.adapter_files import replace_folder

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".champion-") as scratch:
        try:
            copied = download_artifacts(
                artifact_uri=champion.source, dst_path=scratch, tracking_uri=tracking.tracking_uri
            )
        except mlflow_errors() as error:
            uri = tracking.tracking_uri
            raise ChampionError(
                f"champion {champion.model_id} cannot be fetched from {masked(champion.source, uri)}:"
                f" {first_line(error, uri)}"
            ) from None  # the text of the cause may hold the password
        source = next((p.parent for p in sorted(Path(copied).rglob(_WEIGHTS))), None)
        if source is None:
            place = masked(champion.source, tracking.tracking_uri)
            raise ChampionError(
                f"champion {champion.model_id}: {place} holds no {_WEIGHTS}; register the artifact 'adapter'"
                " of a training run"
            )
        if source == Path(scratch):  # an artifact root: give it a folder of its own
            source = _moved_down(source)
        replace_folder(source, folder)


def _moved_down(root: Path) -> Path:
    files = list(root.iterdir())
    inner = root / "adapter"
    inner.mkdir()
    for path in files:
        path.rename(inner / path.name)
    return inner


def _refuse_damaged(champion: Champion, folder: Path) -> None:
    weights, stated = folder / _WEIGHTS, _manifest(folder).get("adapter_sha256")
    if not weights.is_file():
        raise ChampionError(
            f"champion {champion.model_id}: {folder} holds no {_WEIGHTS}; delete the folder to fetch it again"
        )
    if stated is not None and file_sha256(weights) != stated:
        raise ChampionError(
            f"champion {champion.model_id}: {weights} is not the file that its manifest names; delete {folder} to fetch"
            " it again, and if that does not help train the adapter again"
        )


def _refuse_other_base(champion: Champion, folder: Path, model_params: ModelParams) -> None:
    trained_on = _manifest(folder).get("model", {}).get("model_name")
    if trained_on not in (None, model_params.model_name):
        raise ChampionError(
            f"champion {champion.model_id} was trained on {trained_on!r}, the profile names"
            f" {model_params.model_name!r}; set model.model_name to {trained_on}"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_manifest.json"
    if not path.is_file():
        return {}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ChampionError(f"{path} is no JSON; delete {folder} to fetch it again") from error
    return manifest


def _has_registry(tracking_uri: str) -> bool:
    return not tracking_uri.startswith(SQLITE) or Path(tracking_uri.removeprefix(SQLITE)).is_file()


def _client(tracking: TrackingParams) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.tracking_uri)
