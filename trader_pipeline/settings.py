"""Where the settings come from: the environment says which profile and where, a profile composes the stages' params.

Belongs here: the environment's settings, profiles and how they are loaded. The params themselves stand beside the
functions that they steer.
"""

from __future__ import annotations

import difflib
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from trader_pipeline.profile import Profile


class EnvironmentSettings(BaseSettings):
    """Settings that belong to a machine and not to a result: read from `TRADER_PIPELINE_*` or `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="TRADER_PIPELINE_", env_file=".env", extra="ignore", frozen=True
    )

    profile: str = Field(
        default="sample", description="name of a profile (sample, full, gpu) or path of a .yml file"
    )
    klines: str = Field(default="", description="folder or file of candles; empty: the profile's own source")
    data_dir: str = Field(default="", description="where tables land; empty: data/<profile>")
    overrides: list[str] = Field(default=[], description="further settings as a JSON list of KEY=VALUE")

    mlflow_tracking_uri: str = Field(
        default="",
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow tracking address; empty: SQLite in <data_dir>/mlflow",
    )

    mlflow_ui: str = Field(
        default="http://127.0.0.1:5000", description="address of MLflow's page, for links to runs"
    )

    dagster_ui: str = Field(
        default="http://127.0.0.1:3000", description="address of Dagster's page, for links to runs"
    )

    def tracking_uri(self) -> str:
        return self.mlflow_tracking_uri or f"sqlite:///{self.data_root / 'mlflow' / 'mlflow.db'}"

    @property
    def profile_name(self) -> str:
        return Path(self.profile).stem

    @property
    def data_root(self) -> Path:
        return Path(self.data_dir or Path("data") / self.profile_name).absolute()


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(
        Path(str(f)).stem for f in files("trader_pipeline.profiles").iterdir() if str(f).endswith(".yml")
    )


def load_profile(name: str, *, klines: str = "", overrides: dict[str, Any] | None = None) -> Profile:
    """A profile by name or path; `klines` switches its candle source to files, `overrides` are dotted keys.

    Raises:
        ValueError: unknown profile or setting; the message names the nearest valid one.
    """
    from trader_pipeline.profile import Profile

    tree = _parse_yaml(_profile_text(name), f"profile {name}") or {}
    if not isinstance(tree, dict):
        raise ValueError(f"profile {name}: a mapping of sections is expected, got a {type(tree).__name__}")
    if klines:
        _set(tree, "klines.source", "file")
        _set(tree, "klines.path", str(Path(klines).expanduser().absolute()))
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    _read_calibrations(tree)
    candles = tree.get("klines", {})
    if candles.get("source") == "file" and not candles.get("path"):
        raise ValueError(
            f"profile {name} reads candle files: say where with --klines FOLDER (make run KLINES=FOLDER)"
        )
    return Profile.from_tree({"name": Path(name).stem, **tree})


def _read_calibrations(tree: dict[str, Any]) -> None:
    """`options.calibration_file` stands for the calibrations in it: they take over from the package's, from the first
    day on which one of them applies.
    """
    path = tree.get("options", {}).pop("calibration_file", None)
    if not path:
        return
    from trader_pipeline.options.params import default_calibrations, load_calibrations

    own = load_calibrations(Path(path).expanduser())
    since = min(c.applies_from for c in own)
    tree["options"]["calibrations"] = [*(c for c in default_calibrations() if c.applies_from < since), *own]


def parse_overrides(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`("backtest.size=2",)` as `{"backtest.size": 2}`; values are read as YAML.

    Raises:
        ValueError: a pair has no `=`.
    """
    overrides = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f"a setting is KEY=VALUE, for example backtest.size=2; got {pair!r}")
        # YAML 1.1 reads 1:30 as minutes and seconds, that is 90.
        clock = re.fullmatch(r"\s*[-+]?\d+(:\d+)+\s*", value)
        overrides[key.strip()] = value.strip() if clock else _parse_yaml(value, f"setting {key}")
    return overrides


def _profile_text(name: str) -> str:
    if name.endswith((".yml", ".yaml")):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"profile file {name} does not exist")
        return path.read_text()
    if name not in profile_names():
        near = difflib.get_close_matches(name, profile_names(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(profile_names())}{hint}")
    return files("trader_pipeline.profiles").joinpath(f"{name}.yml").read_text()


def _parse_yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is not valid YAML: {error}") from error


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ValueError(f"setting {dotted}: {section} is no section")
    tree[last] = value
