"""What the biased estimators have in common: a float in the place of a discrete value."""

from __future__ import annotations

from typing import Any, ClassVar, override

import numpy as np
from jax.core import Tracer

from ppl.distributions.density import relaxed_log_density
from ppl.distributions.relaxation import relaxation
from ppl.errors import ParameterError
from ppl.estimators.protocol import Estimator


class RelaxedValue(Estimator):
    """BIASED: an estimator whose value is a float that carries a derivative, where the choice's is discrete.

    The value of a flip or a Bernoulli choice becomes a float of its parameters' dtype, wherever such an
    estimator is named for it.
    """

    pathwise: ClassVar[bool] = True
    biased: ClassVar[bool] = True
    needs: ClassVar[str] = (
        "Its values are floats: make the choice a ppl.flip, a ppl.bernoulli or a "
        "ppl.families.one_hot_categorical. "
    )

    @override
    def admits(self, distribution: Any) -> bool:
        """Coins, whose values become floats, and one-hot categories."""
        rule = relaxation(distribution)
        return rule is not None and rule.in_place

    @override
    def log_density(self, distribution: Any, value: Any) -> Any:
        """Linear in the value, between those of the discrete choice."""
        return relaxed_log_density(distribution, value)


def check_temperature(temperature: Any) -> None:
    """Checks a temperature whose value is known.

    Raises:
        ParameterError: it is not positive.
    """
    if not isinstance(temperature, Tracer) and not np.all(np.asarray(temperature) > 0):
        raise ParameterError(f"the temperature of a relaxation must be positive, got {temperature}")
