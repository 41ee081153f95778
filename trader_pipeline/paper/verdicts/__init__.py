"""GOOD, OK or BAD, and why: figures drawn from a trade's own record, sentences computed from them, their sums."""
