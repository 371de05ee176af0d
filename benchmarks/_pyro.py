"""The four problems in Pyro, under `TraceGraph_ELBO`: a process of its own, in the environment of its own.

    python _pyro.py PROBLEM PARAMETERS.npz

prints the names of its estimators as a line of JSON; then answers each line `{"name": ..., "seed": ...}`
with the seconds that one gradient took, and the gradient. `_contest.py` starts it. It knows nothing of
`ppl` or JAX.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceGraph_ELBO

# What is asked for beside a choice of the guide: nothing, or a moving average of the return as its baseline.
PLAIN: dict[str, Any] = {}
AVERAGE = {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}}


def network(weights: Any, x: Any) -> Any:
    (w1, b1), (w2, b2) = weights
    return torch.tanh(x @ w1 + b1) @ w2 + b2


def layers(values: dict[str, Any], prefix: str) -> Any:
    return [[values[f"{prefix}/{layer}/{part}"] for part in range(2)] for layer in range(2)]


def vae(values: dict[str, Any], infer: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    images = values["constants/images"].float()
    decoder = layers(values, "constants/decoder")
    latents = values["params/encoder/1/1"].shape[0]

    def model() -> None:
        with pyro.plate("image", len(images), dim=-2):
            with pyro.plate("bit", latents, dim=-1):
                z = pyro.sample("z", dist.Bernoulli(logits=torch.zeros(len(images), latents)))
            pixel = network(decoder, z)[:, None]
            pyro.sample("x", dist.Bernoulli(logits=pixel).to_event(1), obs=images[:, None])

    def guide() -> None:
        encoder = layers(parameters(values), "params/encoder")
        with pyro.plate("image", len(images), dim=-2), pyro.plate("bit", latents, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=network(encoder, images)), infer=infer)

    return model, guide


def hmm(values: dict[str, Any], infer: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    transition, means = values["constants/transition"], values["constants/means"]
    observed = values["constants/observed"]

    def model() -> None:
        z = torch.tensor(0)
        for t, y in enumerate(observed):
            z = pyro.sample(f"z{t}", dist.Categorical(logits=transition[z]))
            pyro.sample(f"y{t}", dist.Normal(means[z], 1.0), obs=y)

    def guide() -> None:
        tables, z = parameters(values)["params/logits"], torch.tensor(0)
        for t, table in enumerate(tables):
            z = pyro.sample(f"z{t}", dist.Categorical(logits=table[z]), infer=infer)

    return model, guide


def factors(values: dict[str, Any], infer: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    loadings, counts = values["constants/loadings"], values["constants/counts"].float()
    shape, rate = values["constants/prior"]
    size = (len(counts), len(loadings))

    def model() -> None:
        with pyro.plate("image", size[0], dim=-2):
            with pyro.plate("factor", size[1], dim=-1):
                z = pyro.sample("z", dist.Gamma(shape.expand(size), rate))
            pyro.sample("x", dist.Poisson((z @ loadings)[:, None]).to_event(1), obs=counts[:, None])

    def guide() -> None:
        moving = parameters(values)
        law = dist.Gamma(moving["params/log_concentration"].exp(), moving["params/log_rate"].exp())
        with pyro.plate("image", size[0], dim=-2), pyro.plate("factor", size[1], dim=-1):
            pyro.sample("z", law, infer=infer)

    return model, guide


def mixture(values: dict[str, Any], infer: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    data = values["constants/data"]
    components = values["params/logits"].shape[1]

    def model() -> None:
        with pyro.plate("component", components):
            center = pyro.sample("center", dist.Normal(torch.zeros(components, 2), 4.0).to_event(1))
        with pyro.plate("point", len(data)):
            z = pyro.sample("z", dist.Categorical(logits=torch.zeros(len(data), components)))
            pyro.sample("x", dist.Normal(center[z], 1.0).to_event(1), obs=data)

    def guide() -> None:
        moving = parameters(values)
        with pyro.plate("component", components):
            law = dist.Normal(moving["params/loc"], moving["params/log_scale"].exp())
            pyro.sample("center", law.to_event(1))
        with pyro.plate("point", len(data)):
            pyro.sample("z", dist.Categorical(logits=moving["params/logits"]), infer=infer)

    return model, guide


PROBLEMS = {"vae": vae, "hmm": hmm, "factors": factors, "mixture": mixture}
# Of the mixture, the variance that counts is that of the categories' own parameters.
MEASURED = {"mixture": ["params/logits"]}
WARMUP = 30
VARIANTS = {"TraceGraph": PLAIN, "TraceGraph, average": AVERAGE}


def parameters(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the guide, as Pyro keeps them."""
    return {
        name: pyro.param(name, value) if name.startswith("params/") else value
        for name, value in values.items()
    }


def main(name: str, path: str) -> None:
    torch.set_num_threads(1)  # of one or two, what is faster for tensors of this size
    with np.load(path) as stored:
        # Sorted as JAX sorts the leaves of a dictionary, so that gradients are laid out in the same way.
        values = {key: torch.from_numpy(stored[key]) for key in sorted(stored)}
    measured = MEASURED.get(name, [key for key in values if key.startswith("params/")])
    # A gamma is reparameterized here, and has no use for a baseline.
    variants = {"TraceGraph, pathwise": PLAIN} if name == "factors" else VARIANTS
    programs = {variant: PROBLEMS[name](values, infer) for variant, infer in variants.items()}
    for _ in range(WARMUP):  # averages begin at zero
        for program in programs.values():
            TraceGraph_ELBO().loss_and_grads(*program)
    print(json.dumps(list(programs)), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pyro.set_rng_seed(asked["seed"])
        leaves = dict(pyro.get_param_store().named_parameters())
        for leaf in leaves.values():
            leaf.grad = None
        began = time.perf_counter()
        TraceGraph_ELBO().loss_and_grads(*programs[asked["name"]])
        seconds = time.perf_counter() - began
        # Pyro descends the negative ELBO.
        gradient = torch.cat([-leaves[key].grad.reshape(-1) for key in measured]).numpy()
        encoded = base64.b64encode(gradient.astype(np.float32).tobytes()).decode()
        print(json.dumps({"seconds": seconds, "gradient": encoded}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
