"""Every column once. Tables pick from here; a column means the same wherever it appears."""

from trader_pipeline.schema.table import Column

C = Column


def _columns(*columns: Column) -> dict[str, Column]:
    named = {c.name: c for c in columns}
    if len(named) != len(columns):
        names = [c.name for c in columns]
        raise ValueError(f"columns defined twice: {sorted({n for n in names if names.count(n) > 1})}")
    return named


EXIT_STYLES = ("hold_to_expiry", "tp_and_roll")
EXIT_REASONS = ("expired", "take_profit", "signal", "no_delivery_price")
DIRECTIONS = ("LONG", "SHORT", "SHORT_CALL")
TRADE_STATUS = ("OPEN", "CLOSED")
REASONS = (
    "sold", "no_candidates", "no_quotes", "score_below_threshold", "trade_simulation_failed", "declined",
)  # fmt: skip
CORPUS_KINDS = ("trade_or_skip", "pick_candidate", "replay", "review", "preference", "stable")
SPLITS = ("train", "val", "test", "sealed")
VERDICTS = ("GOOD", "OK", "BAD")
GAP_REASONS = (
    "exchange_has_none",
    "not_asked_again",
    "absent_from_archive",
    "absent_from_files",
    "simulated",
)
NO_TRADE = "NO_TRADE"

_CANDLES = _columns(
    C("open_time", "timestamp", "left edge of the candle"),
    C("open", "float64", "first traded price", "USD per coin", above=0),
    C("high", "float64", "highest traded price", "USD per coin", above=0),
    C("low", "float64", "lowest traded price", "USD per coin", above=0),
    C("close", "float64", "last traded price, known at close_time", "USD per coin", above=0),
    C("volume", "float64", "traded volume", "coin", minimum=0),
    C(
        "close_time",
        "timestamp",
        "right edge of the candle (exclusive): open_time + timeframe; the candle is known from here",
    ),
    C(
        "quote_volume",
        "float64",
        "traded value; null where the source has none",
        "USD",
        minimum=0,
        nullable=True,
    ),
    C("trade_count", "int64", "number of trades; null where the source has none", minimum=0, nullable=True),
    C(
        "volatility_index",
        "float64",
        "the venue's 30-day volatility index known at close_time; null where none is recorded",
        "annualised decimal",
        above=0,
        nullable=True,
    ),
)

_GAPS = _columns(
    C("from", "timestamp", "open_time of the first missing candle"),
    C("to", "timestamp", "open_time of the first candle after the gap"),
    C("bars", "int64", "missing candles", minimum=1),
    C(
        "gap_reason",
        "string",
        "exchange_has_none: asked for again and still missing; not_asked_again: the exchange did not answer the second"
        " question; absent_from_archive, absent_from_files: the files do not hold them; simulated: made so",
        allowed=GAP_REASONS,
    ),
)

_REGIMES = _columns(
    C("regime", "string", "window key: label, first day, last day (inclusive)"),
    C("label", "string", "market state over the window, in hindsight", allowed=("bull", "chop", "dump")),
    C("start", "timestamp", "first moment of the window"),
    C("end", "timestamp", "first moment after the window"),
    C("days", "int64", "length of the window", "days", minimum=1),
    C("return_pct", "float64", "close-to-close return of the reference underlying over the window", "%"),
    C("provisional", "bool", "the window is still open at the end of the candles; it gets no partition"),
)

_OPTIONS = _columns(
    C("decision_time", "timestamp", "moment of the decision; only what was known then may be used"),
    C("underlying", "string", "the coin", allowed=("BTC", "ETH")),
    C("instrument", "string", "Deribit instrument name"),
    C("option_type", "string", "right to buy or to sell", allowed=("call", "put")),
    C("strike", "float64", "strike price", "USD per coin", above=0),
    C("expiry", "timestamp", "expiry, 08:00 UTC"),
    C("listing", "string", "why this expiry is listed", allowed=("daily", "weekly", "monthly", "quarterly")),
    C("dte", "float64", "time to expiry", "days", above=0),
    C("spot", "float64", "close of the last candle known at decision_time", "USD per coin", above=0),
    C(
        "forward",
        "float64",
        "forward price for the expiry; in the modelled chain spot times the calibrated basis",
        "USD per coin",
        above=0,
    ),
    C("iv", "float64", "implied volatility of the mark", "annualised decimal", above=0),
    C("delta", "float64", "displayed delta, signed: Black-Scholes, USD view", minimum=-1, maximum=1),
    C("mark_price", "float64", "mark", "coin", minimum=0),
    C("bid_price", "float64", "best bid, on tick", "coin", minimum=0),
    C("ask_price", "float64", "best ask, on tick", "coin", minimum=0),
    C("quote_time", "timestamp", "when the venue stamped the quote; it is known from here"),
    C("index_price", "float64", "the venue's index at the quote", "USD per coin", above=0),
    C("vega", "float64", "USD change per volatility point; null where not recorded", "USD", nullable=True),
    C(
        "open_interest",
        "float64",
        "contracts open; null where not recorded",
        "coin",
        minimum=0,
        nullable=True,
    ),
    C("iv_open", "float64", "volatility index at the start of the hour", "annualised decimal", above=0),
    C("iv_high", "float64", "highest volatility index", "annualised decimal", above=0),
    C("iv_low", "float64", "lowest volatility index", "annualised decimal", above=0),
    C("iv_close", "float64", "volatility index known at close_time", "annualised decimal", above=0),
    C("delivery_price", "float64", "price at which the expiry settled", "USD per coin", above=0),
)

_BACKTEST = _columns(
    C("exit_style", "string", "how the position is left", allowed=EXIT_STYLES),
    C("candidates", "int64", "number of candidates offered to the policy", minimum=0),
    C(
        "best_score",
        "float64",
        "the teacher's highest score over the candidates",
        "0-10",
        minimum=0,
        maximum=10,
        nullable=True,
    ),
    C("score", "float64", "the teacher's score", "0-10", minimum=0, maximum=10),
    C("reason", "string", "why a call was sold, or why not", allowed=REASONS),
    C(
        "reward",
        "float64",
        "USD value of the book at the chain's end minus at the decision; 0 where nothing was sold",
        "USD",
    ),
    C(
        "pnl_vs_hodl",
        "float64",
        "reward minus what holding the coins alone made; 0 where nothing was sold",
        "USD",
    ),
    C(
        "max_drawdown_pct",
        "float64",
        "largest peak-to-trough fall of the book's USD value until the chain's end",
        "%",
        minimum=0,
        maximum=100,
    ),
    C("pnl_coin", "float64", "premiums minus fees, buy-backs and payoffs", "coin"),
    C("fees_coin", "float64", "all fees of the chain", "coin", minimum=0),
    C("legs", "int64", "number of calls sold one after the other in the chain", minimum=0),
    C("label_end_time", "timestamp", "when the outcome is known: the end of the chain, rolls included"),
    C("leg", "int64", "position of the leg in its chain, from 0", minimum=0),
    C("entry_time", "timestamp", "open of the candle at which the call was sold"),
    C("entry_spot", "float64", "spot at the sale", "USD per coin", above=0),
    C("entry_iv", "float64", "implied volatility at the sale", "annualised decimal", above=0),
    C("premium_coin", "float64", "premium received at the bid", "coin", above=0),
    C("entry_fee_coin", "float64", "fee paid at the sale", "coin", minimum=0),
    C("exit_time", "timestamp", "when the leg ended"),
    C("exit_reason", "string", "why the leg ended", allowed=EXIT_REASONS),
    C("exit_spot", "float64", "spot at the buy-back, or the delivery price", "USD per coin", above=0),
    C("exit_cost_coin", "float64", "price of the buy-back, or payoff at delivery", "coin", minimum=0),
    C("exit_fee_coin", "float64", "fee paid at the exit", "coin", minimum=0),
    C("trade_executed", "int64", "1 if the decision sold any candidate", minimum=0, maximum=1),
    C("chosen", "int64", "1 on the candidate that was sold", minimum=0, maximum=1),
    C(
        "sellable",
        "int64",
        "1 if the outcome of selling this candidate is known; else its *_if_sold are null",
        minimum=0,
        maximum=1,
    ),
    C("reward_if_sold", "float64", "reward had this candidate been sold", "USD", nullable=True),
    C("pnl_vs_hodl_if_sold", "float64", "pnl_vs_hodl had this candidate been sold", "USD", nullable=True),
    C(
        "max_drawdown_pct_if_sold",
        "float64",
        "max_drawdown_pct had this candidate been sold",
        "%",
        minimum=0,
        maximum=100,
        nullable=True,
    ),
    C(
        "regret_if_sold",
        "float64",
        "pnl_vs_hodl_if_sold of the decision's best candidate under the same exit style, minus this candidate's; known"
        " when the last of the decision's candidates is over, later than this row's label_end_time",
        "USD",
        minimum=0,
        nullable=True,
    ),
    C(
        "advantage_if_sold_pct",
        "float64",
        "pnl_vs_hodl_if_sold over the coins' value at the decision: what selling makes over doing nothing",
        "%",
        nullable=True,
    ),
    C(
        "best_pnl_vs_hodl",
        "float64",
        "largest pnl_vs_hodl_if_sold of the decision's candidates; 0, doing nothing, where none is above it; known when"
        " the last of them is over, later than this row's label_end_time",
        "USD",
        minimum=0,
    ),
    C(
        "regret",
        "float64",
        "best_pnl_vs_hodl minus pnl_vs_hodl: what the best choice in hindsight, doing nothing among them, made more;"
        " known when best_pnl_vs_hodl is",
        "USD",
        minimum=0,
    ),
    C("ivrv_ratio", "float64", "implied over trailing 30-day realised volatility", above=0),
    C("premium_yield_pct", "float64", "bid premium over one coin", "%", minimum=0, maximum=100),
)

FEATURES = _columns(
    C("return_1d_pct", "float64", "log return over the last day", "%"),
    C("return_7d_pct", "float64", "log return over the last 7 days", "%"),
    C("return_30d_pct", "float64", "log return over the last 30 days", "%"),
    *(
        C(
            f"return_24h_lag_{lag}_pct",
            "float64",
            f"log return over the 24 hours that ended {lag} days before",
            "%",
        )
        for lag in range(1, 7)
    ),
    C(
        "realised_volatility_1d",
        "float64",
        "realised volatility of the last day",
        "annualised decimal",
        minimum=0,
    ),
    C(
        "realised_volatility_7d",
        "float64",
        "realised volatility of the last 7 days",
        "annualised decimal",
        minimum=0,
    ),
    C(
        "realised_volatility_30d",
        "float64",
        "realised volatility of the last 30 days",
        "annualised decimal",
        minimum=0,
    ),
    C("distance_to_ma_7d_pct", "float64", "spot over its 7-day mean, minus 1", "%"),
    C("distance_to_ma_30d_pct", "float64", "spot over its 30-day mean, minus 1", "%"),
    C(
        "drawdown_from_high_30d_pct",
        "float64",
        "fall of spot from its 30-day high",
        "%",
        minimum=0,
        maximum=100,
    ),
    C("range_position_30d", "float64", "0 at the 30-day low, 1 at the 30-day high", minimum=0, maximum=1),
    C("atr_14d_pct", "float64", "mean daily true range of the last 14 days over spot", "%", minimum=0),
)
RECORDED_FEATURES = _columns(
    C(
        "term_structure_slope",
        "float64",
        "at-the-money volatility of the expiry nearest to 30 days minus that of the one nearest to 7 days, from quotes"
        " recorded at or before the decision; null where the chain is modelled, or only one such expiry is quoted",
        "annualised decimal",
        nullable=True,
    ),
)
OPTION_FEATURES = _columns(
    C("distance_to_strike_atr", "float64", "strike minus spot, in average true ranges", "ATR"),
)

_PAPER = _columns(
    C("market", "string", "underlying and timeframe, for example BTC_5m"),
    C("trade_id", "string", "hash of book, decision, symbol and direction"),
    C("timestamp", "timestamp", "when the record's event happened in market time: the entry, then the exit"),
    C("symbol", "string", "what was traded: an instrument, or a spot pair"),
    C(
        "direction",
        "string",
        "side opened: coins bought, coins sold short, or a call sold on coins held",
        allowed=DIRECTIONS,
    ),
    C(
        "entry_price",
        "float64",
        "fill: USD per coin (LONG, SHORT), or the first leg's premium in coin per coin covered (SHORT_CALL)",
        above=0,
    ),
    C(
        "exit_price",
        "float64",
        "fill at the exit in the unit of entry_price; of a SHORT_CALL what the last leg cost to leave",
        minimum=0,
    ),
    C("entry_ts", "timestamp", "when the trade was opened"),
    C("exit_ts", "timestamp", "when the trade was closed"),
    C("size", "float64", "position size", "coin", above=0),
    C("fee", "float64", "fees paid so far: coin (SHORT_CALL) or USD (LONG, SHORT)", minimum=0),
    C(
        "pnl_pct",
        "float64",
        "LONG, SHORT: gain after fees over the entry's value; SHORT_CALL: pnl_vs_hodl over the coins' value at entry",
        "%",
    ),
    C(
        "covered_return_pct",
        "float64",
        "the covered position's own return: its USD value at the exit over that of its coins at entry, minus 1",
        "%",
    ),
    C("status", "string", "state of the trade", allowed=TRADE_STATUS),
    C("reasoning", "string", "why the policy traded, from what it saw"),
    C("model_id", "string", "policy that decided"),
    C("decision_context", "string", "JSON of what was seen at the decision"),
    C("path", "string", "JSON of what the trade went through between entry and exit (docs/paper.md)"),
    C("source_hash", "string", "SHA-256 of the candles that the record rests on, up to its event"),
    C(
        "verdict",
        "string",
        "GOOD at or above the good threshold, OK above 0, BAD otherwise",
        allowed=VERDICTS,
    ),
    C("analysis", "string", "what happened, computed from the trade's path"),
    C("improvement", "string", "what would have been better, computed from the trade's path"),
)

_CORPORA = _columns(
    C("record_id", "string", "hash of the record's text and origin"),
    C("kind", "string", "corpus kind", allowed=CORPUS_KINDS),
    C("split", "string", "time split after purge and embargo", allowed=SPLITS),
    C("system", "string", "system turn"),
    C("user", "string", "user turn"),
    C("assistant", "string", "assistant turn: the answer"),
    C("chosen_answer", "string", "the answer to prefer: what ended better"),
    C("rejected_answer", "string", "the answer to avoid: what ended worse"),
    C("weight", "float64", "how much the record counts in the training loss; 1 on average", above=0),
)

_TRAINING = _columns(
    C("step", "int64", "optimiser step", minimum=0),
    C("loss", "float64", "mean cross-entropy of the answer tokens", "nats per token", minimum=0),
    C("learning_rate", "float64", "learning rate at the step; null for validation", minimum=0, nullable=True),
)

_FORGETTING = _columns(
    C("model", "string", "base model, adapter, or the adapter trained without the stable mix"),
    C("instructions", "int64", "held-out stable instructions that the figures stand on", minimum=1),
    C("answer_tokens", "int64", "tokens of their answers, ends of turn included", minimum=1),
    C("loss_change_pct", "float64", "the loss against the base model's; null for that itself", "%"),
    C("change_low_pct", "float64", "lower end of the paired bootstrap interval of loss_change_pct", "%"),
    C("change_high_pct", "float64", "upper end of the paired bootstrap interval of loss_change_pct", "%"),
    C(
        "exact_share",
        "float64",
        "share of instructions whose whole answer and end of turn greedy decoding would give",
        minimum=0,
        maximum=1,
    ),
    C("budget_pct", "float64", "most that loss_change_pct may be", "%", minimum=0),
)

_EVALUATION = _columns(
    C("policy", "string", "who decided"),
    C("choice", "string", "instrument chosen, or NO_TRADE"),
    C(
        "teacher_choice",
        "string",
        "what the teacher did, and so what the corpus teaches: instrument or NO_TRADE",
    ),
    C(
        "answer_log_probability",
        "float64",
        "mean over shuffles of the chosen answer's log-probability; null for rules",
        "nats",
        nullable=True,
        maximum=0,
    ),
    C("correct", "int64", "1 if choice equals teacher_choice", minimum=0, maximum=1),
    C("metric", "string", "name of the figure"),
    C("segment", "string", "what the figure is over: all or an underlying"),
    C("value", "float64", "the figure"),
    C("count", "int64", "how many observations the figure stands on", minimum=0),
    C("equity_usd", "float64", "book value, marked", "USD", minimum=0),
    C("hodl_usd", "float64", "value of the coins alone", "USD", minimum=0),
)

_GROUPS = (
    _CANDLES, _GAPS, _REGIMES, _OPTIONS, _BACKTEST, FEATURES, RECORDED_FEATURES, OPTION_FEATURES, _PAPER, _CORPORA,
    _TRAINING, _FORGETTING, _EVALUATION,
)  # fmt: skip
COLUMNS: dict[str, Column] = _columns(*(column for group in _GROUPS for column in group.values()))
