"""The variance of the parts of a gradient: what the estimator of each choice puts into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import Address
from ppl.expectation import Expectation, gradient_parts
from ppl.report.measure import Measurement, Task, compiled_batch, pooled


def measured_parts(
    objective: Expectation, addresses: Sequence[Address], key: jax.Array, task: Task
) -> list[Measurement]:
    """The parts of the gradient: of the choices at each address, and last the direct one."""

    def one(key: jax.Array, *args: Any) -> list[Any]:
        parts = gradient_parts(objective, key, args, task.argnums, task.num_samples, addresses)
        through, direct = map(jax.tree.leaves, parts)
        return [jnp.concatenate([t, d[None]]) for t, d in zip(through, direct, strict=True)]

    batch = compiled_batch(one, task, rows=1)
    results = [jax.tree.map(np.asarray, batch(keys)) for keys in task.keys(key)]
    rows = [jax.tree.map(lambda x, row=row: x[row], results) for row in range(len(addresses) + 1)]
    return [pooled(row, task) for row in rows]
