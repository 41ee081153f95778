"""What is written when, with a stand-in for MLflow that can go away."""

import logging

import pytest

from trader_pipeline.training.metric_buffer import MetricBuffer


class Store:
    """Takes batches, or fails as long as `away` is set."""

    def __init__(self):
        self.batches, self.away = [], False

    def __call__(self, batch):
        if self.away:
            raise ConnectionError("gone")
        self.batches.append([(m.key, m.step, m.value) for m in batch])


@pytest.fixture
def store():
    return Store()


def buffer_of(store, *, known=None, interval=0.0, pause=0.0):
    return MetricBuffer(store, errors=(ConnectionError,), known=known or {}, interval=interval, pause=pause)


def test_metrics_wait_until_it_is_time_and_go_in_one_batch(store):
    buffer = buffer_of(store, interval=3600.0)
    buffer.add("loss", 1.0, step=0)
    assert buffer.flush() == 0  # the first goes at once
    for step in (1, 2):
        buffer.add("loss", 1.0 / step, step=step)
        assert buffer.flush() == step
    assert store.batches == [[("loss", 0, 1.0)]]
    assert buffer.flush(at_once=True) == 0
    assert store.batches[1:] == [[("loss", 1, 1.0), ("loss", 2, 0.5)]]


def test_a_metric_that_the_run_has_at_that_step_is_not_written_again(store):
    buffer = buffer_of(store, known={("loss", 1): 0.5})
    for value in (0.5, 0.7):
        buffer.add("loss", value, step=1)
    buffer.add("loss", 0.4, step=2)
    buffer.add("loss", 0.4, step=2)
    buffer.flush()
    assert store.batches == [[("loss", 2, 0.4)]]


def test_a_summary_is_written_again_only_where_it_changed(store):
    buffer = buffer_of(store, known={("best", 0): 0.5, ("mean", 0): 0.7})
    buffer.add("best", 0.5, step=0, again=True)
    buffer.add("mean", 0.6, step=0, again=True)
    buffer.flush()
    assert store.batches == [[("mean", 0, 0.6)]]


def test_metrics_are_kept_while_the_store_is_away_and_written_when_it_is_back(store, caplog):
    buffer = buffer_of(store)
    store.away = True
    buffer.add("loss", 1.0, step=1)
    with caplog.at_level(logging.WARNING):
        assert buffer.flush() == 1
    assert "ConnectionError" in caplog.text
    assert "1 are kept" in caplog.text
    store.away = False
    buffer.add("loss", 0.5, step=2)
    assert buffer.flush() == 0
    assert store.batches == [[("loss", 1, 1.0), ("loss", 2, 0.5)]]


def test_a_store_that_is_away_is_not_asked_at_every_step(store):
    buffer = buffer_of(store, pause=3600.0)
    store.away = True
    buffer.add("loss", 1.0, step=1)
    buffer.flush()
    store.away = False
    assert buffer.flush() == 1
    assert buffer.flush(at_once=True) == 0


def test_more_metrics_than_a_call_takes_go_in_several(store):
    buffer = buffer_of(store)
    for step in range(2500):
        buffer.add("loss", 1.0, step=step)
    buffer.flush()
    assert [len(batch) for batch in store.batches] == [1000, 1000, 500]


def test_an_error_that_is_not_the_stores_is_raised(store):
    def broken(batch):
        raise TypeError("a bug")

    buffer = buffer_of(broken)
    buffer.add("loss", 1.0, step=1)
    with pytest.raises(TypeError, match="a bug"):
        buffer.flush()
