"""The evidence lower bound with weights on its two parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from ppl.address import show
from ppl.errors import MissingChoice, UnsupportedProgram
from ppl.measure import Measure
from ppl.objectives.supports import check_supports
from ppl.program import Conditioned


def tempered(likelihood: Any = 1.0, divergence: Any = 1.0) -> Callable[[Measure, Measure], jax.Array]:
    """The ELBO, with weights on its likelihood and on its divergence from the prior.

        a log p(y | x) + b (log p(x) - log q(x)),    x ~ q,

    where `log p(y | x)` is the log density of what the target is conditioned on, given all its choices, and
    `p(x)` that of the rest. To be maximized. `tempered()` is `ppl.elbo`.

    What it bounds: with `b = 1` the expected value is at most `log of the integral of p(x) p(y | x)^a`, the
    evidence of the tempered target, which for `a` from zero to one goes from the prior to the posterior. With
    `a = 1` and `b >= 1` (a beta-VAE) it is at most the ELBO, and so `log Z`, since the divergence
    `KL(q || p(x))` is not negative. If what is observed is a random `m` of `M` data, `a = M / m` makes it
    unbiased for the ELBO of all, when the latents are shared by all: see also `ppl.objectives.scaled`.

    Args:
        likelihood: `a`, a number; it may be traced, as when it is annealed.
        divergence: `b`, likewise.

    Returns:
        `objective(target, guide)`, one draw, a scalar. Its derivative is unbiased.

    Raises:
        UnsupportedProgram: the target is not conditioned, so that it has no likelihood.
        MissingChoice: the guide does not propose every choice of the target.
        SupportMismatch: the guide has values that the target never has.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> guide = ppl.gen(lambda mean: ppl.normal(mean, 1.0) @ "x")
        >>> target = model().condition({"y": 1.0})
        >>> objective = ppl.expectation(
        ...     lambda mean, a: ppl.objectives.tempered(likelihood=a)(target, guide(mean))
        ... )
        >>> slope = objective.grad(jax.random.key(0), 0.2, 0.25, num_samples=10_000)
        >>> f"{abs(slope):.1f}"  # a (1 - mean) - mean
        '0.0'

    References:
        Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner, "beta-VAE: learning basic visual
        concepts with a constrained variational framework", 2017, eq. 4.
        Mandt, McInerney, Abrol, Ranganath, Blei, "Variational tempering", 2016.
    """

    def objective(target: Measure, guide: Measure) -> jax.Array:
        if not isinstance(target, Conditioned):
            raise UnsupportedProgram(
                f"tempered weighs the log density of what is observed, and {target!r} is not conditioned. "
                "Condition it: `model(...).condition({'y': y})`."
            )
        trace = guide.propose()
        scored, log_likelihood = target.propose_given(trace.choices, ())
        given = [address for address, _ in (target.observed | trace.choices).leaves()]
        # What is not given would have been drawn from the prior, and not be an error.
        if missing := [show(address) for address, _ in scored.choices.leaves() if address not in given]:
            raise MissingChoice(
                f"tempered: the guide {guide!r} does not propose {', '.join(map(repr, missing))} of "
                f"{target!r}."
            )
        check_supports(target, guide, "tempered")
        log_prior = scored.log_density - log_likelihood
        return likelihood * log_likelihood + divergence * (log_prior - trace.log_density)

    return objective
