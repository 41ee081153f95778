"""`Profile`: every stage's params in one frozen tree. Nothing in code asks which profile is run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.corpora.audit import AuditParams
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.mixing import MixParams
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.corpora.stable import StableParams
from trader_pipeline.corpora.trade_reviews import ReviewParams
from trader_pipeline.evaluation.params import EvaluationParams, ForgettingParams
from trader_pipeline.klines.archive_source import ArchiveParams
from trader_pipeline.klines.regimes import RegimeParams
from trader_pipeline.klines.retrying import RetryParams
from trader_pipeline.klines.source import KlinesParams
from trader_pipeline.klines.windows import WindowParams
from trader_pipeline.options.deribit import DeribitParams
from trader_pipeline.options.params import OptionParams
from trader_pipeline.paper.params import PaperParams
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams
from trader_pipeline.schema import Market
from trader_pipeline.store import settings_hash
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.params import FinetuneParams


class Profile(BaseModel):
    """Settings of a whole run. Each section steers the stage it is named after."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    markets: tuple[str, ...] = Field(
        ("BTC_1h", "ETH_1h"), description="markets whose partitions are materialised"
    )
    klines: KlinesParams = KlinesParams()
    deribit: DeribitParams = DeribitParams()
    regimes: RegimeParams = RegimeParams()
    windows: WindowParams = WindowParams()
    options: OptionParams = OptionParams()
    backtest: BacktestParams = BacktestParams()
    paper: PaperParams = PaperParams()
    evaluator: EvaluatorParams = EvaluatorParams()
    splits: SplitParams = SplitParams()
    render: RenderParams = RenderParams()
    corpus: CorpusParams = CorpusParams()
    review: ReviewParams = ReviewParams()
    audit: AuditParams = AuditParams()
    stable: StableParams = StableParams()
    mix: MixParams = MixParams()
    model: ModelParams = ModelParams()
    finetune: FinetuneParams = FinetuneParams()
    forgetting: ForgettingParams = ForgettingParams()
    evaluation: EvaluationParams = EvaluationParams()

    @field_validator("markets")
    @classmethod
    def _one_timeframe_per_underlying(cls, markets: tuple[str, ...]) -> tuple[str, ...]:
        underlyings = [Market.parse(key).underlying for key in markets]
        if not markets or len(set(underlyings)) != len(underlyings):
            raise ValueError(
                "give one timeframe per underlying: the same decision may not enter a corpus twice"
            )
        return markets

    @property
    def reference_market(self) -> str:
        """The market on whose candles the regime windows are dated."""
        return f"BTC_{self.klines.finest_timeframe}"

    @property
    def candle_markets(self) -> tuple[str, ...]:
        """Markets whose candles are loaded: the profile's, the finest of each underlying, and the reference."""
        return tuple(sorted({*self.window_markets, self.reference_market}))

    @property
    def window_markets(self) -> tuple[str, ...]:
        """The markets whose windows are made: the profile's, and the finest of each underlying for marks."""
        finest = (f"{Market.parse(m).underlying}_{self.klines.finest_timeframe}" for m in self.markets)
        return tuple(sorted({*self.markets, *finest}))

    @property
    def settings_digest(self) -> str:
        """One hash over every setting."""
        return settings_hash({name: self.section_hash(name) for name in type(self).model_fields})

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Profile:
        """Validate a settings tree.

        Raises:
            ValueError: one line a bad setting, with its dotted name and the nearest valid one.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ValueError("\n".join(_explain(e) for e in error.errors())) from error

    def to_yaml(self) -> str:
        """Every setting, those left at their default included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def section_hash(self, section: str) -> str:
        value = getattr(self, section)
        if isinstance(value, KlinesParams):
            # Candles count by their content, not by where they lie or how they were asked for.
            asked = {
                name: getattr(value, name).model_copy(update=unused)
                for name, unused in (
                    ("ccxt", {"base_url": None, "page_limit": 1, "retries": RetryParams()}),
                    (
                        "archive",
                        {"base_url": ArchiveParams().base_url, "workers": 1, "retries": RetryParams()},
                    ),
                )
            }
            value = value.model_copy(update={"path": None, "downloads_dir": None, "offline": False, **asked})
        if isinstance(value, PaperParams):
            # Spot and live settings steer no table of a run; a live book keeps its own in its START line.
            value = {"exit_style": value.exit_style}
        if isinstance(value, DeribitParams):
            # What is recorded counts by its content, not by where files lie or how the exchange was asked.
            value = DeribitParams(
                source=value.source, max_dte_days=value.max_dte_days, option_types=value.option_types
            )
        if isinstance(value, StableParams):
            value = {"content": value.content}
        return settings_hash(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)


def setting_names(model: type[BaseModel] = Profile, prefix: str = "") -> Iterator[str]:
    """Dotted names of every setting."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_names(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _explain(error: Any) -> str:
    dotted = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"setting {dotted}: {error['msg']} (got {error['input']!r})"
    near = difflib.get_close_matches(dotted, list(setting_names()), 1, cutoff=0.4)
    return f"unknown setting {dotted}{f'; did you mean {near[0]}?' if near else ''}"
