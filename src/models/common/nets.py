"""Layers of weights and biases: pytrees, and the functions that apply them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Layer = dict[str, jax.Array]


def linear(key: jax.Array, inputs: int, outputs: int) -> Layer:
    """Weights and biases, uniform up to one over the root of the number of inputs."""
    bound = inputs**-0.5
    draw = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    one, other = jax.random.split(key)
    return {"w": draw(one, (inputs, outputs)), "b": draw(other, (outputs,))}


def affine(weights: Layer, x: jax.Array) -> jax.Array:
    return x @ weights["w"] + weights["b"]


def layers(key: jax.Array, sizes: Sequence[int], silent: bool = False) -> list[Layer]:
    """Of a network with these numbers of units; `silent` begins with a last layer of zeros."""
    keys = jax.random.split(key, len(sizes) - 1)
    made = [linear(k, *pair) for k, pair in zip(keys, itertools.pairwise(sizes), strict=True)]
    return [*made[:-1], jax.tree.map(jnp.zeros_like, made[-1])] if silent else made


def perceptron(
    some: list[Layer], x: jax.Array, activation: Callable[[jax.Array], jax.Array] = jnp.tanh
) -> jax.Array:
    """The layers one after another, the activation between two."""
    for layer in some[:-1]:
        x = activation(affine(layer, x))
    return affine(some[-1], x)
