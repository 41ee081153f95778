"""Replay files of anyone: each line a trade, bookkeeping, or refused by its number; percent or fraction by one rule."""
