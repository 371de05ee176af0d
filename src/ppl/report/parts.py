r"""The parts of a gradient: what the estimator of each choice puts into it.

A derivative goes from a parameter to the result along paths. Those that enter the parameters of a choice,
through other choices or not, and then no others, are the part of its estimator: the score times the
return, the weights times the differences, or the derivative of the result in its value. So

    gradient = direct + sum over choices of part

holds exactly in every run; `direct` are the paths past all choices.

To tell the paths apart the program is run twice in one `vmap`, with the same noise. In the second copy the
parameters of every choice are those of the first. A derivative that reaches the second result from the
arguments of the first has then entered a choice there, the last on its way; all but one are closed by
`stop_gradient`. One that comes from the arguments of the second has passed none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.address import Address
from ppl.derived import is_float, moving_arrays, picked, surrogate_of
from ppl.expectation import Expectation
from ppl.report.measure import Measurement, Task, compiled_batch, pooled
from ppl.site import Site

_COPIES = "ppl.copies"


def gradient_parts(
    of: Expectation, key: jax.Array, args: tuple[Any, ...], argnums: Any, num_samples: int,
    addresses: Sequence[Address],
) -> tuple[Any, Any]:  # fmt: skip
    """The gradient of one estimate, split by the last choice on the way from a parameter to the result.

    Returns:
        As `grad` structures it, the part of the choices at each of the addresses, stacked; and the direct
        part. Inner expectations are split likewise.
    """
    parts, moving = moving_arrays(of, args, argnums)
    staged = of.stage(*args)

    def split_off(opened: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        def from_first(site: Site, operands: list[Any]) -> list[Any]:
            gate = opened[addresses.index(site.address)]
            first = jax.lax.axis_index(_COPIES) == 0

            def one(x: Any) -> Any:
                if not is_float(x):
                    return x
                shared = jax.lax.all_gather(x, _COPIES)[0]
                return jnp.where(first, x, jnp.where(gate, shared, jax.lax.stop_gradient(shared)))

            return [one(x) for x in operands]

        function, floats = surrogate_of(staged, moving, key, num_samples, reverse=True, parameters=from_first)
        second = lambda pairs: jax.vmap(function, axis_name=_COPIES)(pairs)[1]
        slopes = jax.grad(second)([jnp.stack([x, x]) for x in floats])
        return [slope[0] for slope in slopes], [slope[1] for slope in slopes]

    count = len(addresses)
    through, direct = jax.vmap(split_off)(jnp.eye(max(count, 1), count, dtype=bool))
    through, direct = [x[:count] for x in through], [x[0] for x in direct]
    return picked(parts, moving, through, argnums), picked(parts, moving, direct, argnums)


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
