"""From BTC and ETH candles to a fine-tuned covered-call policy. Paper only: no order is ever sent.

The stages in the order of the data; each is a package, a Dagster group, a folder under `data/` and a settings section:

    schema      every column and table once: dtype, unit, meaning, bounds
    store       tables on disk: atomic Parquet with content hash and the parents' hashes
    klines      candles from the simulator or from files, cleaned, resampled; regime windows
    options     Deribit's listing calendar, Black-76, volatility and spread model, modelled chains
    backtest    covered-call engine: decision steps, both exit styles, the policy protocol and the teacher
    datasets    chain-level and candidate-level training data, features, splits, CSV/JSONL exports
    paper       the policy replayed as paper trades, each judged GOOD, OK or BAD
    corpora     chat records for fine-tuning, mixed with stable instructions; the audit of any chat corpus
    leaks       the proof that nothing looks ahead: the future is changed, leaks are planted, bytes are compared
    training    LoRA fine-tuning, logged in MLflow
    evaluation  the adapter against base model and baselines, on held-out steps and as a policy in the backtest
    lineage     from a line of a corpus back to its candles
    defs        the Dagster definitions: eight thin modules over the functions above

Importing this package loads none of them.
"""

__version__ = "0.1.0"
