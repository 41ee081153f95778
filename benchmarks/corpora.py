"""What shortcuts score on the corpora of a finished run: `python benchmarks/corpora.py data/full`.

Learned on train, measured on test; the balanced column is the mixed corpus' val records.
"""

import argparse

import pandas as pd

from trader_pipeline.corpora import baselines
from trader_pipeline.klines import current_partitions
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    MIXED_CORPUS,
    PICK_CANDIDATE_CORPUS,
    REPLAY_CORPUS,
    TRADE_OR_SKIP_CORPUS,
)
from trader_pipeline.store import TableStore


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", nargs="?", default="data/sample", help="data folder of a finished run")
    store = TableStore(parser.parse_args().data_dir)
    if store.manifest(MIXED_CORPUS) is None:
        print(f"{store.root} holds no finished run; make one with `make run`")
        return
    dataset = store.read_all(CANDIDATE_DATASET, current_partitions(store, CANDIDATE_DATASET))

    def shortcuts(table: Table, split: str) -> pd.Series:
        frame = store.read(table)
        frame = frame[frame["kind"] == "trade_or_skip"] if table is MIXED_CORPUS else frame
        chosen, train = frame[frame["split"] == split], frame[frame["split"] == "train"]
        found = baselines(chosen, fit=train, candidate_dataset=dataset)
        return pd.Series({"records": f"{len(chosen):,}", **{k: f"{100 * v:.1f} %" for k, v in found.items()}})

    columns = {
        "trade or skip": shortcuts(TRADE_OR_SKIP_CORPUS, "test"),
        "trade or skip, balanced val": shortcuts(MIXED_CORPUS, "val"),
        "pick": shortcuts(PICK_CANDIDATE_CORPUS, "test"),
        "replay": shortcuts(REPLAY_CORPUS, "test"),
    }
    table = pd.DataFrame(columns).fillna("")
    print(f"| shortcut | {' | '.join(table.columns)} |\n|{'---|' * (len(table.columns) + 1)}")
    for name, row in table.iterrows():
        print(f"| {str(name).replace('_', ' ')} | {' | '.join(row)} |")
    print_lengths(store.read(MIXED_CORPUS))


def print_lengths(mixed: pd.DataFrame) -> None:
    """Tokens of whole records by kind, chat template and answer included."""
    from trader_pipeline.training.models import ModelParams, encode_answer, encode_prompt, load_base_model

    _, tokenizer = load_base_model(ModelParams())
    tokens = [
        len(encode_prompt(tokenizer, r.system, r.user)) + len(encode_answer(tokenizer, r.assistant))
        for r in mixed.itertuples()
    ]
    print("\n| kind | tokens, mean | most |\n|---|---|---|")
    for kind, own in mixed.assign(tokens=tokens).groupby("kind")["tokens"]:
        print(f"| {str(kind).replace('_', ' ')} | {own.mean():.0f} | {own.max()} |")


if __name__ == "__main__":
    main()
