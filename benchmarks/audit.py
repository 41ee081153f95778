"""The audit's power, its false alarms and its pace, as tables for docs/audit.md: `python benchmarks/audit.py`.

Flaws are planted in clean synthetic corpora of two sizes, ten times each; found means that one of the rules named
finds it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._results import seconds
from trader_pipeline.corpora.audit import audit_corpus
from trader_pipeline_tests.corpora.clean_corpora import clean_corpora, clean_pick, clean_trade
from trader_pipeline_tests.corpora.planted_flaws import FLAWS, planted

SIZES = (100, 400)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="how often each flaw is planted")
    parser.add_argument("--clean", type=int, default=200, help="how many clean corpora are audited")
    parser.add_argument("--records", type=int, default=100_000, help="records of the corpora that are timed")
    arguments = parser.parse_args()
    print("\n".join(power_table(arguments.seeds)))
    alarms = [
        name for name, frame in clean_corpora(arguments.clean, first_seed=0) if not audit_corpus(frame).passed
    ]
    print(f"\n{arguments.clean} clean corpora: {len(alarms)} with a finding {alarms or ''}\n")
    print("\n".join(pace_table(arguments.records)))


def power_table(seeds: int) -> Iterator[str]:
    """One row a flaw: the rules that must find it, and how often one of them does."""
    yield f"| flaw | found by | {' | '.join(f'{n} records' for n in SIZES)} |"
    yield f"|---|---|{'---|' * len(SIZES)}"
    for name, flaw in FLAWS.items():
        cells = []
        for records in SIZES:
            reports = [audit_corpus(planted(name, records=records, seed=seed)) for seed in range(seeds)]
            found = sum(bool({f.rule for f in report.findings} & flaw.rules) for report in reports)
            cells.append(f"{found} of {seeds}")
        yield f"| {name} | {', '.join(sorted(flaw.rules))} | {' | '.join(cells)} |"


def pace_table(records: int) -> Iterator[str]:
    """Seconds that one audit of so many records takes."""
    corpora: dict[str, pd.DataFrame] = {
        "trade or skip": clean_trade(records, 0),
        "trade or skip, narrative": clean_trade(records, 0, narrative=True),
        "pick": clean_pick(records, 0),
    }
    yield "| corpus | records | seconds |"
    yield "|---|---|---|"
    for name, frame in corpora.items():
        yield f"| {name} | {len(frame):,} | {seconds(lambda frame=frame: audit_corpus(frame)):.0f} |"


if __name__ == "__main__":
    main()
