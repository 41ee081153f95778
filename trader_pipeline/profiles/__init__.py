"""Profiles: YAML files of settings. `sample` runs anywhere; `full` and `gpu` want real candles; `tiny` is for tests."""
