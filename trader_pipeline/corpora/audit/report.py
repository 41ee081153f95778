"""What an audit found: figures with their bounds, and the rules that are broken.

Belongs here: the report, its forms as JSON, table and lines. Nothing about how a figure is measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from trader_pipeline.corpora.audit.params import AuditParams, loosened


@dataclass(frozen=True)
class Finding:
    """A rule that a corpus breaks, how badly, and one record that shows it.

    `figure` and `bound` are shares, or numbers of records where `bound` is 0. `record_id` is empty where no one
    record shows it; `line` and `source` say where the record stands in a file, where it comes from one.
    """

    rule: str
    kind: str
    figure: float | None
    bound: float | None
    record_id: str
    line: int | None
    detail: str
    source: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line is not None else self.record_id
        figures = "" if self.figure is None else f" {_short(self.figure, count=self.bound == 0)}"
        if self.bound is not None and self.figure is not None:
            figures += f" (bound {_short(self.bound, count=self.bound == 0)})"
        return f"{self.rule}: {self.kind or 'corpus'}:{figures} {self.detail}{f' [{place}]' if place else ''}"


@dataclass(frozen=True)
class AuditReport:
    """Figures are named `kind/figure`; a bound has the name of its figure. Passed: no finding.

    `corpus_hash` is that of the frame audited (`corpora.records.corpus_hash`); training asks for it. `params` are all
    settings of the audit, `unchecked` the rules that could not run, as nothing is known that they need.
    """

    corpus_hash: str
    records: int
    figures: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    bounds: dict[str, float] = field(default_factory=dict)
    params: dict[str, float] = field(default_factory=lambda: AuditParams().model_dump())
    unchecked: tuple[str, ...] = ()

    @property
    def loosened(self) -> list[str]:
        """Names of the settings that let more through than the defaults."""
        return loosened(self.params)

    @property
    def passed(self) -> bool:
        """Whether the corpus may be trained on."""
        return not self.findings

    def to_json(self) -> str:
        """The whole report as one JSON document, keys in a fixed order."""
        document = {
            "passed": self.passed,
            "corpus_hash": self.corpus_hash,
            "records": self.records,
            "figures": self.figures,
            "bounds": self.bounds,
            "params": self.params,
            "unchecked": list(self.unchecked),
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> AuditReport:
        """The reverse of `to_json`.

        Raises:
            ValueError: not an audit report, one without all settings, or one whose `passed` contradicts its findings.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            findings = tuple(Finding(**finding) for finding in document["findings"])
            report = cls(
                document["corpus_hash"],
                document["records"],
                document["figures"],
                findings,
                document["bounds"],
                _all_params(document["params"]),
                tuple(document["unchecked"]),
            )
            passed = document["passed"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not an audit report ({error!r}); write one with"
                " `trader-pipeline corpus audit FILE.jsonl --out REPORT.json`"
            ) from error
        if passed is not report.passed:
            raise ValueError(f"the audit report says passed={passed} and has {len(findings)} findings")
        return report

    def table(self) -> pd.DataFrame:
        """One row a figure and one column a kind, texts: `0.607 ≤ 0.750`; a figure without a bound is not judged.

        `≈` stands where the figure is above its bound, but too few records say so.
        """
        kinds = list(dict.fromkeys(name.split("/", 1)[0] for name in self.figures))
        figures = dict.fromkeys(name.split("/", 1)[1] for name in self.figures)
        broken = {f"{finding.kind or 'corpus'}/{finding.rule}" for finding in self.findings}
        cells = [[self._cell(f"{kind}/{figure}", broken) for kind in kinds] for figure in figures]
        table = pd.DataFrame(cells, columns=kinds, dtype=object)
        table.insert(0, "figure", [figure.replace("_", " ") for figure in figures])
        for rule in self.unchecked:
            table.loc[len(table)] = [rule.replace("_", " "), *["not checked"] * len(kinds)]
        return table

    def _cell(self, name: str, broken: set[str]) -> str:
        if name not in self.figures:
            return ""
        bound = self.bounds.get(name)
        count = bound == 0 or name.endswith("/records")
        value = _short(self.figures[name], count=count)
        if bound is None:
            return value
        limit = _short(bound, count=count)
        if name in broken:
            return f"{value} > {limit}"
        # Its lower confidence limit is within the bound: so few records may show such a share by chance.
        return f"{value} ≈ {limit}" if self.figures[name] > bound else f"{value} ≤ {limit}"

    def lines(self) -> list[str]:
        """One line a finding, after how it went, what was not checked, and which settings are loose."""
        verdict = (
            "passed"
            if self.passed
            else f"{len(self.findings)} {'finding' if len(self.findings) == 1 else 'findings'}"
        )
        notes = [f"not checked: {', '.join(self.unchecked)}"] if self.unchecked else []
        notes += [f"looser than the default: {', '.join(self.loosened)}"] if self.loosened else []
        return [f"{self.records} records: {verdict}", *notes, *(str(finding) for finding in self.findings)]


def _all_params(values: dict[str, float]) -> dict[str, float]:
    """The settings as read from a document: all of them, and no others."""
    if missing := set(AuditParams.model_fields) - set(values):
        raise ValueError(f"the settings lack {', '.join(sorted(missing))}")
    return AuditParams.model_validate(values).model_dump()


def _short(value: float, *, count: bool) -> str:
    """A number of records, or a share with 3 digits."""
    return f"{value:.0f}" if count else f"{value:.3f}"
