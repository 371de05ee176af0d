"""The one primitive through which all randomness enters a derived program.

`noise_p` draws a block of independent values of one *law* (a distribution whose parameters, if any,
are operands that carry no derivative). Everything random in `ppl` is a deterministic, differentiable
function of such blocks. A test can therefore replace the primitive by quadrature nodes or enumerated
values and integrate an estimator over its own noise.

Two batching rules give the semantics that the rest relies on:

- a lane *token* that is mapped asks for independent draws in each lane, as one block from one key;
- a `vmap` over anything else repeats the same draw, so that several evaluations of one program
  (enumerated values, phantoms) share their randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from numpyro.distributions.util import binomial

from ppl.address import further_draw, lane_number
from ppl.errors import PPLError


@dataclass(frozen=True)
class Law:
    """A distribution of noise.

    Attributes:
        name: how it is shown.
        sample: `(key, shape, dtype, *parameters) -> array` of that shape; parameters broadcast
            against `shape`.
        distribution: `(*parameters) -> numpyro distribution`, the same law for whoever integrates
            over the noise; `None` if it has no such form.
        identity: tells laws of one name apart. JAX caches what it lowers by the equality of parameters,
            so two opaque laws that compared equal would draw from the first.
    """

    name: str
    sample: Callable[..., jax.Array] = field(compare=False)
    distribution: Callable[..., Any] | None = field(compare=False, default=None)
    identity: Any = None  # what tells laws of one name apart


NORMAL = Law(
    "normal",
    lambda key, shape, dtype: jax.random.normal(key, shape, dtype),
    lambda: dist.Normal(0.0, 1.0),
)
UNIFORM = Law(
    "uniform",
    # The open interval: an exact zero has logarithm -inf, and `jax.random.uniform` returns one
    # every 2**23 draws of a float32.
    lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, minval=jnp.finfo(dtype).tiny),
    lambda: dist.Uniform(0.0, 1.0),
)
LOG_GAMMA = Law(
    "log_gamma",
    lambda key, shape, dtype, concentration: jax.random.loggamma(key, concentration, shape, dtype),
    lambda concentration: dist.TransformedDistribution(
        dist.Gamma(concentration, 1.0), dist.transforms.ExpTransform().inv
    ),
)
BERNOULLI = Law(
    "bernoulli",
    lambda key, shape, dtype, probs: jax.random.bernoulli(key, probs, shape).astype(dtype),
    dist.Bernoulli,
)
MANY = 2**16
"""How many numbers of Gumbel noise draws of categories that share their law may take."""


def _categories(key: Any, shape: tuple[int, ...], dtype: Any, logits: jax.Array) -> jax.Array:
    """By Gumbel noise, a number for each draw and category; or by inversion, a number for each draw."""
    shared = [i for i, size in enumerate(shape) if logits.shape[i] < size]
    if not shared or math.prod(shape) * logits.shape[-1] <= MANY:
        return jax.random.categorical(key, logits, shape=shape).astype(dtype)
    below = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1)
    u = jax.random.uniform(key, shape, below.dtype)
    rows = jnp.moveaxis(u, shared, list(range(-len(shared), 0)))
    ends = below.reshape(math.prod(below.shape[:-1]), -1)
    # Where a probability is zero the end is that before, which is never beyond a number below it.
    find = lambda ends, u: jnp.searchsorted(ends, u * ends[-1], side="right")
    found = jax.vmap(find)(ends, rows.reshape(len(ends), -1)).reshape(rows.shape)
    return jnp.moveaxis(found, list(range(-len(shared), 0)), shared).astype(dtype)


CATEGORICAL = Law(
    "categorical",
    _categories,
    lambda logits: dist.Categorical(logits=logits),
)
POISSON = Law(
    "poisson",
    lambda key, shape, dtype, rate: jax.random.poisson(key, rate, shape, dtype),
    dist.Poisson,
)
GEOMETRIC = Law(
    "geometric",
    # JAX counts trials from 1, NumPyro failures from 0.
    lambda key, shape, dtype, probs: jax.random.geometric(key, probs, shape, dtype) - 1,
    dist.Geometric,
)
BINOMIAL = Law(
    "binomial",
    lambda key, shape, dtype, probs, count: binomial(key, probs, count, shape).astype(dtype),
    lambda probs, count: dist.Binomial(total_count=count, probs=probs),
)
INTEGER = Law(
    "integer",
    lambda key, shape, dtype, low, high: jax.random.randint(key, shape, low, high + 1, dtype),
    dist.DiscreteUniform,
)


def opaque(make: Callable[..., Any]) -> Law:
    """The law of any NumPyro distribution, drawn by its own sampler."""
    return Law(
        "numpyro",
        lambda key, shape, dtype, *leaves: make(*leaves).sample(key).astype(dtype),
        make,
        identity=make,
    )


noise_p = Primitive("noise")


def _draw(key, token, *parameters, law: Law, shape, dtype, keys: int, lanes: int):
    """`keys` leading axes of `key` and of each parameter, then `lanes` of one block."""
    del token

    def one(key, *parameters):
        if law.name == "numpyro" and lanes:
            # No broadcasting to rely on: a key for each lane.
            count = 1
            for size in shape[:lanes]:
                count *= size
            split = jax.random.split(key, count).reshape(shape[:lanes])
            sample = lambda key, *leaves: law.sample(key, shape[lanes:], dtype, *leaves)
            for _ in range(lanes):
                sample = jax.vmap(sample)
            return sample(split, *parameters)
        return law.sample(key, shape, dtype, *parameters)

    for _ in range(keys):
        one = jax.vmap(one)
    return one(key, *parameters)


noise_p.def_impl(_draw)
mlir.register_lowering(noise_p, mlir.lower_fun(_draw, multiple_results=False))


@noise_p.def_abstract_eval
def _abstract(key, token, *parameters, law, shape, dtype, keys, lanes):
    return ShapedArray((*key.shape[:keys], *shape), dtype)


def _batch(axis_data, args, dims, *, law, shape, dtype, keys, lanes):
    size = axis_data.size
    key, token, *parameters = args
    key_dim, token_dim, *parameter_dims = dims
    if all(dim is None for dim in dims):
        return noise_p.bind(*args, law=law, shape=shape, dtype=dtype, keys=keys, lanes=lanes), None

    def at(x, dim, position, whole=True):
        if dim is None and not whole:
            return jnp.expand_dims(x, position)
        if dim is None:
            return jnp.broadcast_to(
                jnp.expand_dims(x, position), (*x.shape[:position], size, *x.shape[position:])
            )
        return jnp.moveaxis(x, dim, position)

    if key_dim is None and token_dim is not None:
        # One block for all lanes, from one key.
        whole = law is not CATEGORICAL  # many draws of one law share its probabilities
        parameters = [at(x, dim, keys, whole) for x, dim in zip(parameters, parameter_dims, strict=True)]
        token = jnp.moveaxis(token, token_dim, 0)
        out = noise_p.bind(
            key, token, *parameters, law=law, shape=(size, *shape), dtype=dtype, keys=keys, lanes=lanes + 1
        )
        return out, keys
    if token_dim is not None:
        # The lanes have keys of their own, but perhaps equal ones: the lane tells them apart.
        token = jax.lax.index_in_dim(token, 0, token_dim, keepdims=False)
        assert key_dim is not None
        key, key_dim = _fold_lanes(jnp.moveaxis(key, key_dim, 0)), 0
    if key_dim is None and not any(dim is not None for dim in parameter_dims):
        out = noise_p.bind(key, token, *parameters, law=law, shape=shape, dtype=dtype, keys=keys, lanes=lanes)
        return out, None
    operands = [at(x, dim, 0) for x, dim in zip([key, *parameters], [key_dim, *parameter_dims], strict=True)]
    out = noise_p.bind(
        operands[0], token, *operands[1:], law=law, shape=shape, dtype=dtype, keys=keys + 1, lanes=lanes
    )
    return out, 0


def _fold_lanes(key: jax.Array) -> jax.Array:
    fold = jax.random.fold_in
    for _ in range(key.ndim - 1):
        fold = jax.vmap(fold, in_axes=(0, None))
    return jax.vmap(fold)(key, lane_number(jnp.arange(key.shape[0])))


batching.fancy_primitive_batchers[noise_p] = _batch


def _jvp(primals, tangents, **params):
    """Noise has no derivative.

    Its parameters have none either, for `Noise.draw` stops it. But JAX moves what a loop does not change
    out of it, and lets the branches of a conditional share the places through which that comes back: a
    tangent that belongs to another branch then stands at a parameter.
    """
    out = noise_p.bind(*primals, **params)
    return out, ad.Zero(jax.typeof(out).to_tangent_aval())


ad.primitive_jvps[noise_p] = _jvp


SAMPLES = "ppl.samples"
"""The name of the axis of independent runs that `num_samples` averages."""


class Token(NamedTuple):
    """Asks for independent draws in each lane of whatever it is mapped over.

    Attributes:
        own: mapped over all lanes.
        shared: mapped over all of them but the runs of `num_samples`, which then share a draw.
    """

    own: Any = False
    shared: Any = False

    def over(self, lanes: tuple[int, ...]) -> Token:
        """The token with these lane axes, to be mapped over."""
        if not lanes:
            return self
        return Token(*(jnp.zeros(lanes, bool) | part for part in self))


class Noise:
    """A source of noise for one random choice: a key, and the token of the lanes it is drawn in.

    Successive draws are independent. Parameters of a law never carry a derivative.

    Attributes:
        samples: how many runs `num_samples` averages; where there are several, `jax.lax` knows them as the
            axis `SAMPLES`.
    """

    def __init__(self, key: jax.Array, token: Token | None = None, samples: int = 1) -> None:
        self._key, self._token, self._drawn = key, Token() if token is None else token, 0
        self.samples = samples

    @property
    def sample(self) -> Any:
        """The number of this run among those that `num_samples` averages."""
        return jax.lax.axis_index(SAMPLES) if self.samples > 1 else 0

    def shared(self) -> Noise:
        """The same source, except that all runs of `num_samples` draw the same numbers from it.

        It continues the sequence of draws: what is drawn from it is independent of what was drawn before.
        """
        token = Token(self._token.shared, self._token.shared)
        noise = Noise(jax.random.fold_in(self._key, further_draw(0)), token, self.samples)
        noise._drawn = self._drawn
        self._drawn += 1
        return noise

    def draw(self, law: Law, shape: tuple[int, ...], dtype: Any, *parameters: Any) -> jax.Array:
        """Independent draws of `law`, of the given shape, from parameters that broadcast to it."""
        key = self._key if self._drawn == 0 else jax.random.fold_in(self._key, further_draw(self._drawn))
        self._drawn += 1
        parameters = tuple(jax.lax.stop_gradient(jnp.asarray(p)) for p in parameters)
        if law is CATEGORICAL:
            parameters = tuple(p.reshape((1,) * (len(shape) + 1 - p.ndim) + p.shape) for p in parameters)
        elif law.name != "numpyro":
            parameters = tuple(jnp.broadcast_to(p, shape) for p in parameters)
        return noise_p.bind(
            key, jnp.asarray(self._token.own), *parameters, law=law, shape=tuple(shape),
            dtype=jnp.dtype(dtype), keys=0, lanes=0,
        )  # fmt: skip

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = float) -> jax.Array:
        """Independent standard normal draws."""
        return self.draw(NORMAL, shape, jax.dtypes.canonicalize_dtype(dtype))

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = float) -> jax.Array:
        """Independent draws from the open unit interval."""
        return self.draw(UNIFORM, shape, jax.dtypes.canonicalize_dtype(dtype))


def check_key(key: Any) -> jax.Array:
    """The key itself, if it is a single typed one.

    Raises:
        PPLError: `key` is not a scalar made by `jax.random.key`.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise PPLError(f"the first argument is a key made by jax.random.key(seed), got {key!r}")
    if key.shape != ():
        raise PPLError(
            f"expected one key, got an array of keys of shape {key.shape}: use jax.vmap over it, "
            "or num_samples="
        )
    return key
