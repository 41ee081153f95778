"""Resources: the profile with its table store, and MLflow's place. Configured from the environment alone."""

from functools import cached_property
from pathlib import Path

import dagster as dg
import pandas as pd
from pydantic import Field

from trader_pipeline.datasets.exports import ExportSettings
from trader_pipeline.defs.partitions import FINEST_TIMEFRAME
from trader_pipeline.klines import current_partitions
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Market, Table
from trader_pipeline.schema.tables import KLINES
from trader_pipeline.settings import EnvironmentSettings, load_profile, parse_overrides
from trader_pipeline.store import Manifest, TableStore, reference
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.tracking import TrackingParams


class PipelineResource(dg.ConfigurableResource):
    """Which profile is run, on which candles, and where its tables lie."""

    profile_name: str = "sample"
    klines: str = ""
    data_root: str = ""
    overrides: list[str] = Field(default=[])

    @classmethod
    def from_environment(cls) -> "PipelineResource":
        settings = EnvironmentSettings()
        return cls(
            profile_name=settings.profile,
            klines=settings.klines,
            data_root=str(settings.data_root),
            overrides=settings.overrides,
        )

    @cached_property
    def profile(self) -> Profile:
        return load_profile(
            self.profile_name, klines=self.klines, overrides=parse_overrides(tuple(self.overrides))
        )

    @cached_property
    def graph_profile(self) -> Profile:
        """The profile, checked against what the graph's partitions can express.

        Raises:
            ValueError: candles of another finest timeframe than the partitions are marked with.
        """
        finest = self.profile.klines.finest_timeframe
        if finest != FINEST_TIMEFRAME:
            raise ValueError(
                f"klines.finest_timeframe is {finest}: the asset graph marks with {FINEST_TIMEFRAME} candles; the stage"
                " commands take any"
            )
        return self.profile

    @cached_property
    def store(self) -> TableStore:
        return TableStore(self.data_root)

    @property
    def root(self) -> Path:
        return Path(self.data_root)

    def folder(self, stage: str) -> Path:
        """The stage's folder, for what is no table: exports, JSONL files, adapters, the report."""
        path = self.root / stage
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def adapter_dir(self) -> Path:
        return self.folder("training") / "lora_adapter"

    @property
    def report_path(self) -> Path:
        return self.folder("evaluation") / "report.html"

    @property
    def exports_dir(self) -> Path:
        return ExportSettings().folder(default=self.folder("datasets") / "exports")

    @property
    def model_params(self) -> ModelParams:
        """The profile's base model, its weights unpacked once into the shared cache."""
        return self.profile.model.model_copy(update={"cache_dir": self.root.parent / "models"})

    def dagster_run_url(self, run_id: str) -> str:
        """Where Dagster's page shows the run, once the page is up."""
        return f"{EnvironmentSettings().dagster_ui}/runs/{run_id}"

    @property
    def tracking(self) -> TrackingParams:
        settings = EnvironmentSettings()
        return TrackingParams(
            ui_url=settings.mlflow_ui,
            tracking_uri=settings.tracking_uri(),
            experiment=f"trader-pipeline-{self.profile.name}",
        )

    def with_index(self, klines: pd.DataFrame, index: pd.DataFrame, *, market: str) -> pd.DataFrame:
        """Candles of `market` with the volatility index beside them; a real index says nothing about simulated ones."""
        from trader_pipeline.options.surface import with_volatility_index  # loads numba

        known = index.iloc[:0] if self.is_simulated(KLINES, market) else index
        return with_volatility_index(klines, known, underlying=Market.parse(market).underlying)

    def is_simulated(self, table: Table, market: str = "") -> bool:
        """True if any partition of the table (of the market's, where one is named) rests on simulated candles."""
        return any(m.simulated for m in self._manifests(table, market))

    def content_hashes(self, tables: tuple[Table, ...], market: str) -> dict[str, str]:
        """Content hash per partition of the market's tables, by reference."""
        return {reference(t, m.partition): m.content_hash for t in tables for m in self._manifests(t, market)}

    def _manifests(self, table: Table, market: str) -> list[Manifest]:
        own = [p for p in current_partitions(self.store, table) if not market or p[0] == market]
        return [m for m in (self.store.manifest(table, p) for p in own) if m is not None]

    def settings_parent(self, section: str) -> str:
        """The hash under which a settings section counts as a parent."""
        return self.profile.section_hash(section)
