"""What shortcuts score on the corpora of a finished run, and its lengths: `python benchmarks/corpora.py data/full`.

The figures are the audit's: learned on train, scored on the other splits; `value ≤ bound`.
"""

import argparse

import pandas as pd

from trader_pipeline.corpora import audit_corpus
from trader_pipeline.schema.tables import (
    MIXED_CORPUS,
    PICK_CANDIDATE_CORPUS,
    PREFERENCE_CORPUS,
    REPLAY_CORPUS,
    TRADE_OR_SKIP_CORPUS,
)
from trader_pipeline.store import TableStore

CORPORA = (TRADE_OR_SKIP_CORPUS, PICK_CANDIDATE_CORPUS, PREFERENCE_CORPUS, REPLAY_CORPUS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", nargs="?", default="data/sample", help="data folder of a finished run")
    store = TableStore(parser.parse_args().data_dir)
    if store.manifest(MIXED_CORPUS) is None:
        print(f"{store.root} holds no finished run; make one with `make run`")
        return
    tables = [audit_corpus(store.read(t)).table().set_index("figure") for t in CORPORA if store.manifest(t)]
    table = pd.concat(tables, axis=1).fillna("")
    print(f"| figure | {' | '.join(table.columns)} |\n|{'---|' * (len(table.columns) + 1)}")
    for name, row in table.iterrows():
        print(f"| {name} | {' | '.join(row)} |")
    print_lengths(store.read(MIXED_CORPUS))


def print_lengths(mixed: pd.DataFrame) -> None:
    """Tokens of whole records by kind, chat template and answer included."""
    from trader_pipeline.training.lengths import token_lengths
    from trader_pipeline.training.models import ModelParams, load_tokenizer

    tokens = token_lengths(mixed, load_tokenizer(ModelParams()))
    print("\n| kind | tokens, mean | most |\n|---|---|---|")
    for kind, own in mixed.assign(tokens=tokens).groupby("kind")["tokens"]:
        print(f"| {str(kind).replace('_', ' ')} | {own.mean():.0f} | {own.max()} |")


if __name__ == "__main__":
    main()
