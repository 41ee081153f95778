"""Stable instructions: the line of the package's own file that a record was made from."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

from trader_pipeline.lineage.location import Turns
from trader_pipeline.lineage.node import Node

FILE = "stable_instructions.jsonl"


def instruction_node(turns: Turns) -> Node:
    """The instruction's line in the package; missing where instruction or answer are other ones now."""
    data = files("trader_pipeline").joinpath("corpora", FILE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    for number, line in enumerate(data.decode().splitlines(), start=1):
        row = json.loads(line)
        if row.get("instruction") == turns.user:
            same = row.get("answer") == turns.answers[0]
            return Node(
                f"{FILE}:{number}",
                hash=hashlib.sha256(line.encode()).hexdigest(),
                state="current" if same else "changed since",
                note="" if same else "(the answer is another one now)",
                facts={"SHA-256 of the file": digest},
            )
    return Node(FILE, hash=digest, state="missing", note="(the instruction is no longer in the package)")
