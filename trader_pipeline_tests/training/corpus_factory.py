"""A small corpus with a learnable rule, sell where delta is above 0.3, and the audit that lets it be trained on."""

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.records import corpus_hash

RATIONALE = "Premium yield is 0.85%, IV/RV 1.12.\nSpot  fell 3.1% in 7 days; that isn't calm .\nSKIP"
FIGURES = {"trade_or_skip/constant": 0.62, "stable/records": 12.0}


def rule_corpus(train: int = 48, val: int = 12, *, seed: int = 0) -> pd.DataFrame:
    """Rows of the corpus tables' text columns; every fifth record is a stable instruction with a longer answer."""
    deltas = np.random.default_rng(seed).uniform(0.1, 0.6, train + val)
    rows = []
    for i, delta in enumerate(deltas):
        split = "train" if i < train else "val"
        if i % 5 == 4:
            text = ("stable", "Be brief.", f"What is {i} plus one?", f"{i} plus one is {i + 1}.")
        else:
            answer = "SELL_CALL" if delta > 0.3 else "SKIP"
            user = f"Delta: {delta:.2f}\nReply with exactly one token: SELL_CALL or SKIP."
            text = ("trade_or_skip", "You decide on covered calls.", user, answer)
        rows.append((f"r{i:03d}", split, *text))
    return pd.DataFrame(rows, columns=["record_id", "split", "kind", "system", "user", "assistant"])


def passed_audit(corpus: pd.DataFrame) -> AuditReport:
    """A report without findings for exactly this corpus. A true audit would find the rule: it is a shortcut."""
    return AuditReport(corpus_hash(corpus), len(corpus), FIGURES, bounds={"trade_or_skip/constant": 0.75})
