"""The stream of rows that minibatches are cut from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ppl.train.minibatches import cursor_at, next_rows, take


def stream(key: jax.Array, rows: int, batch_size: int, steps: int, start: int = 0) -> np.ndarray:
    """The rows of each step, `(steps, batch_size)`, by one cursor that is handed on."""

    def step(cursor, _):
        chosen, cursor = next_rows(key, cursor, batch_size)
        return cursor, chosen

    _, chosen = jax.lax.scan(step, cursor_at(key, start, rows, batch_size), length=steps)
    return np.asarray(chosen)


@pytest.mark.parametrize(
    ("rows", "batch_size"), [(10, 1), (10, 3), (10, 5), (10, 7), (10, 10), (1, 1), (13, 12)]
)
def test_each_epoch_is_a_permutation_of_all_rows(key, rows, batch_size):
    epochs = stream(key, rows, batch_size, steps=4 * rows).reshape(4 * batch_size, rows)
    np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(rows), epochs.shape))


@pytest.mark.parametrize("start", [0, 1, 4, 9, 10, 33])
def test_a_stream_can_be_entered_at_any_step(key, start):
    whole = stream(key, 10, 3, steps=40)
    np.testing.assert_array_equal(stream(key, 10, 3, steps=40 - start, start=start), whole[start:])


def test_a_late_step_of_a_large_batch_does_not_overflow(key):
    """Step times batch size is beyond 32 bits."""
    assert int(cursor_at(key, 2**31, 12, 5).offset) == 2**31 * 5 % 12


def test_every_place_of_a_batch_holds_every_row_equally_often(key):
    """Chi-squared over keys for each step and place, also where a batch reaches over an epoch's end.

    The tables are 4 steps x 3 places; their smallest p-value is below 1e-7 with probability 1.2e-6
    at most, if the rows are uniform.
    """
    draws = jax.vmap(lambda key: _first_steps(key))(jax.random.split(key, 20_000))
    for step in range(4):
        for place in range(3):
            counts = np.bincount(np.asarray(draws[:, step, place]), minlength=7)
            assert stats.chisquare(counts).pvalue > 1e-7, (step, place)


def _first_steps(key: jax.Array) -> jax.Array:
    cursor, batches = cursor_at(key, 0, 7, 3), []
    for _ in range(4):
        chosen, cursor = next_rows(key, cursor, 3)
        batches.append(chosen)
    return jnp.stack(batches)


def test_successive_epochs_are_independent(key):
    """The first row of one epoch against that of the next; chi-squared, false alarm 1e-7."""

    def firsts(key):
        return jnp.stack([cursor_at(key, epoch, 4, 4).order[0] for epoch in (0, 1)])

    pairs = np.asarray(jax.vmap(firsts)(jax.random.split(key, 20_000)))
    table = np.histogram2d(pairs[:, 0], pairs[:, 1], bins=4)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-7


def test_rows_of_all_arrays_stay_together(key):
    data = {"x": jnp.arange(6.0)[:, None], "y": jnp.arange(6)}
    rows = take(data, jnp.array([4, 1]))
    np.testing.assert_array_equal(rows["x"], [[4.0], [1.0]])
    np.testing.assert_array_equal(rows["y"], [4, 1])
