"""What a run of the prover found: figures, leaks, and what became of the planted ones.

Belongs here: when a proof holds, and how it is said. Nothing is computed here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trader_pipeline.leaks.paper_proof import VERDICTS
from trader_pipeline.leaks.plants import Catch
from trader_pipeline.leaks.prover import LABEL_LIFE, Leak, Tally, first_leaks

LEAST_MOVED = 0.9
"""Share of the cases in which another future must move a label; below it the futures were not other enough."""
LEAST_VERDICTS_MOVED, _ENOUGH_VERDICTS = 0.2, 30
"""The same of the verdicts on paper trades, which are words: most futures give the same one. Judged from 30 runs on."""


@dataclass(frozen=True)
class LeakReport:
    """The result of `prove.prove_no_leaks`. `left_out` says in words what could not be tried, and why."""

    worlds: tuple[str, ...]
    simulated: bool
    seed: int
    tally: Tally
    catches: tuple[Catch, ...]
    left_out: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """No output moved, every mutation was a real one, and every planted leak was caught."""
        return not self.lines()

    @property
    def leaks(self) -> list[Leak]:
        """One leak for each output and column that moved, the first found."""
        return list(first_leaks(self.tally.leaks))

    @property
    def missed(self) -> list[Catch]:
        return [catch for catch in self.catches if not catch.caught]

    def lines(self) -> list[str]:
        """What is wrong, one line each; empty where the proof holds."""
        tally = self.tally
        weak = [
            f"{mutation}: a label moved in {share:.0%} of the runs; at least {least:.0%} must"
            for mutation, share in self.moved_shares().items()
            if share < (least := self._least_moved(mutation))
        ]
        none = [] if tally.cases else ["no case could be tried: " + "; ".join(tally.refusals[:3])]
        return [
            *(f"LEAK {leak}" for leak in self.leaks),
            *(str(catch) for catch in self.missed),
            *(f"no real mutation: {finding}" for finding in dict.fromkeys(tally.unreal)),
            *weak,
            *none,
        ]

    def _least_moved(self, mutation: str) -> float:
        if mutation == LABEL_LIFE:
            return 0.0
        if mutation == VERDICTS:
            return LEAST_VERDICTS_MOVED if self.tally.mutations[VERDICTS] >= _ENOUGH_VERDICTS else 0.0
        return LEAST_MOVED

    def moved_shares(self) -> dict[str, float]:
        """Per mutation, in what share of its runs a label moved."""
        return {name: self.tally.moved[name] / runs for name, runs in sorted(self.tally.mutations.items())}

    def figures(self) -> dict[str, Any]:
        """The counts, by name."""
        tally = self.tally
        return {
            "cases_tried": tally.cases,
            "cases_refused": tally.refused,
            "runs_compared": tally.runs,
            "bytes_compared": tally.bytes,
            "leaks_found": len(tally.leaks),
            "leaks_planted": len(self.catches),
            "leaks_caught": len(self.catches) - len(self.missed),
            "seconds": round(self.seconds, 1),
        }

    def mutation_table(self) -> pd.DataFrame:
        """Runs by mutation, and in what share of them a label moved."""
        shares = self.moved_shares()
        return pd.DataFrame(
            {
                "mutation": list(shares),
                "runs": [self.tally.mutations[name] for name in shares],
                "label moved": [f"{share:.0%}" for share in shares.values()],
            }
        )

    def output_table(self) -> pd.DataFrame:
        """How often each output was held against its real one, and how often it moved."""
        moved = {leak.output for leak in self.tally.leaks}
        count = [sum(leak.output == name for leak in self.tally.leaks) for name in self.tally.outputs]
        extra = sorted(moved - set(self.tally.outputs))
        return pd.DataFrame(
            {
                "output": [*self.tally.outputs, *extra],
                "cases": [*self.tally.outputs.values(), *(0 for _ in extra)],
                "moved": [*count, *(sum(leak.output == name for leak in self.tally.leaks) for name in extra)],
            }
        )

    def plant_table(self) -> pd.DataFrame:
        """Each planted leak, and by what it was caught."""
        rows = []
        for catch in self.catches:
            leak = catch.leak
            seen = f"{leak.output}: {leak.column}" if leak else "MISSED"
            under = f"{leak.mutation} {leak.part}".strip() if leak else ""
            rows.append((catch.plant.name, seen.split(" (")[0], under, catch.cases))
        return pd.DataFrame(rows, columns=["planted leak", "caught by", "under", "cases"])

    def to_json(self) -> str:
        """All of it, for other programs."""
        tally = self.tally
        whole = {
            "passed": self.passed,
            "simulated": self.simulated,
            "worlds": self.worlds,
            "seed": self.seed,
            "figures": self.figures(),
            "sources": dict(tally.by_source),
            "outputs": dict(tally.outputs),
            "mutations": dict(tally.mutations),
            "label_moved_share": self.moved_shares(),
            "planted": [
                {"name": c.plant.name, "says": c.plant.says, "caught": c.caught, "cases": c.cases}
                | ({"by": str(c.leak)} if c.leak else {})
                for c in self.catches
            ],
            "left_out": self.left_out,
            "findings": self.lines(),
        }
        return json.dumps(whole, indent=2, ensure_ascii=False)
