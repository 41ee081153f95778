"""From a line of a JSONL file back to the candles it rests on, each step checked by its content hash.

Belongs here: reading tables, manifests and files of a data folder, and saying how they hang together. Nothing here
makes or changes anything.
Does not belong here: which partitions must be made again (`defs.staleness`), and what a table means (`schema`).

    node        the tree and its text and JSON forms
    location    FILE:LINE, the data folder it belongs to, the line's text
    records     the corpus record that a line is, or the nearest one
    tables      tables of the store as nodes: state against the manifest, rows of one decision
    exports     exported files: a row, the manifest beside it, the candidate files behind a built corpus
    sources     the manifest of an export outside any data folder: candle files, the sibling export
    stable      stable instructions: their line in the package
    decision    the tables behind one decision, in the order of the tree
    origin      from a corpus record to its decision
    candles     which candles the features and the outcome rest on; their source files
    trace       the tree of a line, from the corpora, exports and built corpora it may come from
"""

from trader_pipeline.lineage.location import Location, parse_location
from trader_pipeline.lineage.node import Node, tree_lines, verdict
from trader_pipeline.lineage.trace import trace_line

__all__ = ["Location", "Node", "parse_location", "trace_line", "tree_lines", "verdict"]
