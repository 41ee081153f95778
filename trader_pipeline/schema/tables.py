"""Every table once, as lists of columns. dagster-pandas types, validation and docs derive from it."""

from trader_pipeline.schema.columns import COLUMNS, FEATURES, OPTION_FEATURES, RECORDED_FEATURES
from trader_pipeline.schema.table import Column, Table


def _pick(*names: str) -> tuple[Column, ...]:
    """Columns by name; a `?` after a name makes it nullable in this table."""
    return tuple(COLUMNS[n[:-1]].optional() if n.endswith("?") else COLUMNS[n] for n in names)


_CANDLE = _pick(
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trade_count"
)

KLINES = Table("klines", "klines", "Clean candles of a market.", ("open_time",), _CANDLE)
WINDOW_KLINES = Table(
    "window_klines",
    "klines",
    "The candles one regime window may use: warm-up before it, the window, and the tail in which its chains settle;"
    " beside each the volatility index known at its close.",
    ("open_time",),
    (*_CANDLE, *_pick("volatility_index?")),
)
KLINE_GAPS = Table(
    "kline_gaps",
    "klines",
    "Candles that a market lacks, gap by gap, and why. Nothing is filled in.",
    ("from",),
    _pick("from", "to", "bars", "gap_reason"),
)
REGIME_WINDOWS = Table(
    "regime_windows",
    "klines",
    "Dated bull, chop and dump windows of the reference underlying. Hindsight: names partitions, never a feature.",
    ("regime",),
    _pick("regime", "underlying", "label", "start", "end", "days", "return_pct", "provisional"),
)
_QUOTE = _pick(
    "quote_time", "underlying", "instrument", "option_type", "strike", "expiry", "forward", "index_price",
    "bid_price?", "ask_price?", "mark_price", "iv", "delta", "vega", "open_interest",
)  # fmt: skip
OPTION_QUOTES = Table(
    "option_quotes",
    "options",
    "Recorded Deribit quotes: one row per option and snapshot. Bid or ask is null where nobody stood.",
    ("quote_time", "instrument"),
    _QUOTE,
)
WINDOW_QUOTES = Table(
    "window_quotes",
    "options",
    "The recorded calls that one regime window may use; empty where options.source is model.",
    ("quote_time", "instrument"),
    _QUOTE,
)
VOLATILITY_INDEX = Table(
    "volatility_index",
    "options",
    "Deribit's 30-day volatility index (DVOL), hourly.",
    ("underlying", "open_time"),
    _pick("underlying", "open_time", "iv_open", "iv_high", "iv_low", "iv_close", "close_time"),
)
DELIVERY_PRICES = Table(
    "delivery_prices",
    "options",
    "Prices at which Deribit's options settled.",
    ("underlying", "expiry"),
    _pick("underlying", "expiry", "delivery_price"),
)
OPTION_CHAIN = Table(
    "option_chain",
    "options",
    "The calls listed at each decision time of a window: modelled, or from recorded quotes.",
    ("decision_time", "instrument"),
    _pick(
        "decision_time", "underlying", "instrument", "option_type", "listing", "strike", "expiry", "dte",
        "spot", "forward", "iv", "delta", "mark_price", "bid_price?", "ask_price?",
    ),
)  # fmt: skip
_CHAIN_ACTION = Column("action", "string", "what the step did", allowed=("SELL_CALL", "DO_NOTHING"))
_CANDIDATE_ACTION = Column("action", "string", "what became of this candidate", allowed=("SELL_CALL", "SKIP"))

BACKTEST_STEPS = Table(
    "backtest_steps",
    "backtest",
    "One row per decision and exit style (independent mode): what the teacher did and what came of it.",
    ("decision_time", "exit_style"),
    (
        *_pick("decision_time", "underlying", "spot", "exit_style", "candidates", "best_score?"),
        _CHAIN_ACTION,
        *_pick(
            "reason", "instrument?", "strike?", "delta?", "dte?", "score?", "reward", "pnl_vs_hodl",
            "max_drawdown_pct", "pnl_coin", "fees_coin", "legs", "label_end_time",
        ),
    ),
)  # fmt: skip
BACKTEST_LEGS = Table(
    "backtest_legs",
    "backtest",
    "The legs of every chain the teacher sold.",
    ("decision_time", "exit_style", "leg"),
    _pick(
        "decision_time", "underlying", "exit_style", "leg", "instrument", "strike", "expiry", "entry_time",
        "entry_spot", "entry_iv", "premium_coin", "entry_fee_coin", "exit_time", "exit_reason", "exit_spot",
        "exit_cost_coin", "exit_fee_coin",
    ),
)  # fmt: skip
CANDIDATE_OUTCOMES = Table(
    "candidate_outcomes",
    "backtest",
    "Every candidate of every decision, settled under both exit styles.",
    ("decision_time", "exit_style", "instrument"),
    _pick(
        "decision_time", "underlying", "spot", "exit_style", "instrument", "strike", "expiry", "dte", "delta",
        "iv", "bid_price", "ask_price?", "premium_yield_pct", "ivrv_ratio", "score", "chosen", "sellable",
        "reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold", "label_end_time",
    ),
)  # fmt: skip
CHAIN_DATASET = Table(
    "chain_dataset",
    "datasets",
    "Chain-level training data: one row per decision and exit style.",
    ("decision_time", "exit_style"),
    (
        *_pick("decision_time", "underlying", "spot"),
        _CHAIN_ACTION,
        *_pick(
            "reward", "instrument?", "delta?", "strike?", "dte?", "score?", "exit_style", "pnl_vs_hodl",
            "max_drawdown_pct", "best_score?", "candidates", "reason", "pnl_coin", "fees_coin", "legs",
            "best_pnl_vs_hodl", "regret", "label_end_time",
        ),
        *FEATURES.values(),
        *RECORDED_FEATURES.values(),
    ),
)  # fmt: skip
CANDIDATE_DATASET = Table(
    "candidate_dataset",
    "datasets",
    "Candidate-level training data: one row per candidate, decision and exit style.",
    ("decision_time", "exit_style", "instrument"),
    (
        *_pick(
            "decision_time", "underlying", "spot", "instrument", "strike", "dte", "delta", "score",
            "exit_style", "trade_executed", "chosen",
        ),
        _CANDIDATE_ACTION,
        *_pick(
            "reward", "pnl_vs_hodl", "max_drawdown_pct", "iv", "ivrv_ratio", "premium_yield_pct", "bid_price",
            "sellable", "reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold", "regret_if_sold",
            "advantage_if_sold_pct", "label_end_time",
        ),
        *FEATURES.values(),
        *RECORDED_FEATURES.values(),
        *OPTION_FEATURES.values(),
    ),
)  # fmt: skip
_TRADE = _pick(
    "trade_id", "timestamp", "symbol", "direction", "entry_price", "exit_price?", "entry_ts", "exit_ts?", "size", "fee",
    "pnl_pct?", "covered_return_pct?", "status", "exit_reason?", "reasoning", "model_id", "decision_context", "path?",
    "source_hash", "market", "exit_style?", "regime?",
)  # fmt: skip
_EVALUATION_OF_TRADE = _pick(
    "trade_id", "verdict", "pnl_pct", "direction", "analysis", "improvement", "reasoning"
)
PAPER_REPLAY = Table(
    "paper_replay",
    "paper",
    "The policy replayed as paper trades over a window, by the code that trades live; one row a trade.",
    ("trade_id",),
    _TRADE,
)
REPLAY_EVALUATIONS = Table(
    "replay_evaluations",
    "paper",
    "Each closed paper trade judged.",
    ("trade_id",),
    _EVALUATION_OF_TRADE,
)
LIVE_TRADES = Table(
    "live_trades",
    "paper",
    "Paper trades ticked on a schedule, one row each as last recorded; of a market's books up to its last tick.",
    ("trade_id",),
    _TRADE,
)
LIVE_EVALUATIONS = Table(
    "live_evaluations",
    "paper",
    "Each closed paper trade of table live_trades judged.",
    ("trade_id",),
    _EVALUATION_OF_TRADE,
)
_ORIGIN = _pick(
    "record_id",
    "kind",
    "split",
    "underlying?",
    "decision_time?",
    "label_end_time?",
    "exit_style?",
    "instrument?",
    "weight",
)
_RECORD = (*_ORIGIN, *_pick("system", "user", "assistant"))  # fmt: skip
TRADE_OR_SKIP_CORPUS = Table(
    "trade_or_skip_corpus", "corpora", "One candidate, answer SELL_CALL or SKIP.", ("record_id",), _RECORD
)
PICK_CANDIDATE_CORPUS = Table(
    "pick_candidate_corpus",
    "corpora",
    "All candidates, answer an index or NO_TRADE.",
    ("record_id",),
    _RECORD,
)
REPLAY_CORPUS = Table(
    "replay_corpus", "corpora", "Instructions from evaluated paper trades.", ("record_id",), _RECORD
)
TRADE_REVIEW_CORPUS = Table(
    "trade_review_corpus",
    "corpora",
    "Evaluated paper trades as instructions: what was seen and done; what would have been better, and the verdict.",
    ("record_id",),
    _RECORD,
)
PREFERENCE_CORPUS = Table(
    "preference_corpus",
    "corpora",
    "Pairs of answers to the same prompt, the one that ended better and one that ended worse.",
    ("record_id",),
    (*_ORIGIN, *_pick("system", "user", "chosen_answer", "rejected_answer")),
)
STABLE_CORPUS = Table(
    "stable_corpus",
    "corpora",
    "General instructions that keep the model's other abilities.",
    ("record_id",),
    _RECORD,
)
MIXED_CORPUS = Table(
    "mixed_corpus",
    "corpora",
    "What the adapter is trained on: all kinds, balanced and mixed.",
    ("record_id",),
    _RECORD,
)
TRAINING_LOG = Table(
    "training_log",
    "training",
    "Loss per step of the fine-tuning run.",
    ("split", "step"),
    _pick("split", "step", "loss", "learning_rate"),
)
FORGETTING = Table(
    "forgetting",
    "training",
    "Loss and exact answers on held-out stable instructions, before and after fine-tuning.",
    ("model",),
    _pick(
        "model", "step?", "instructions", "answer_tokens", "loss", "loss_change_pct?", "change_low_pct?",
        "change_high_pct?", "exact_share", "budget_pct",
    ),
)  # fmt: skip
POLICY_DECISIONS = Table(
    "policy_decisions",
    "evaluation",
    "What each policy answered on each held-out step.",
    ("policy", "underlying", "decision_time", "exit_style"),
    _pick(
        "policy", "underlying", "decision_time", "exit_style", "choice", "teacher_choice", "correct",
        "answer_log_probability", "pnl_vs_hodl",
    ),
)  # fmt: skip
POLICY_METRICS = Table(
    "policy_metrics",
    "evaluation",
    "Figures per policy on held-out steps and in the sequential backtest.",
    ("policy", "segment", "exit_style", "metric"),
    _pick("policy", "segment", "exit_style", "metric", "value", "count"),
)
POLICY_EQUITY = Table(
    "policy_equity",
    "evaluation",
    "Equity of each policy's book in the sequential backtest, beside the coins alone.",
    ("policy", "underlying", "exit_style", "close_time"),
    _pick("policy", "underlying", "exit_style", "close_time", "equity_usd", "hodl_usd"),
)

TABLES: tuple[Table, ...] = (
    KLINES, KLINE_GAPS, REGIME_WINDOWS, WINDOW_KLINES, OPTION_QUOTES, VOLATILITY_INDEX, DELIVERY_PRICES,
    WINDOW_QUOTES,
    OPTION_CHAIN, BACKTEST_STEPS, BACKTEST_LEGS, CANDIDATE_OUTCOMES,
    CHAIN_DATASET, CANDIDATE_DATASET, PAPER_REPLAY, REPLAY_EVALUATIONS, LIVE_TRADES, LIVE_EVALUATIONS,
    TRADE_OR_SKIP_CORPUS, PICK_CANDIDATE_CORPUS, REPLAY_CORPUS, TRADE_REVIEW_CORPUS, PREFERENCE_CORPUS,
    STABLE_CORPUS, MIXED_CORPUS, TRAINING_LOG, FORGETTING,
    POLICY_DECISIONS, POLICY_METRICS, POLICY_EQUITY,
)  # fmt: skip
