"""The VAE of table 1 in Pyro: a process of its own, in the environment of its own.

    python _vae_pyro.py FILE.npz

where the file has the weights and the images. It prints the version of Pyro as a line of JSON; then answers
each line `{"batch": ..., "threads": ..., "seed": ..., "gradient": ...}` with the seconds that one gradient of
the mean bound took, and the gradient itself if it is asked for. It knows nothing of `ppl` or JAX.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch.nn.functional import leaky_relu, softplus


def network(name: str, x: Any) -> Any:
    """One hidden layer, whose weights Pyro keeps."""
    (w1, b1), (w2, b2) = (
        [pyro.param(f"params/{name}/{layer}/{part}") for part in (0, 1)] for layer in (0, 1)
    )
    return leaky_relu(x @ w1 + b1) @ w2 + b2


def latents() -> int:
    return pyro.param("params/decoder/0/0").shape[0]


def model(images: Any) -> None:
    with pyro.plate("batch", len(images)):
        z = pyro.sample("z", dist.Normal(torch.zeros(latents()), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=network("decoder", z)).to_event(1), obs=images)


def guide(images: Any) -> None:
    loc, scale = network("encoder", images).split(latents(), -1)
    with pyro.plate("batch", len(images)):
        pyro.sample("z", dist.Normal(loc, softplus(scale)).to_event(1))


def main(path: str) -> None:
    pyro.enable_validation(False)  # what is compiled elsewhere checks no values either
    with np.load(path) as stored:
        # Sorted as JAX sorts the leaves of a dictionary, so that gradients are laid out in the same way.
        values = {name: torch.from_numpy(stored[name]) for name in sorted(stored)}
    images = values.pop("images").float()
    for name, value in values.items():
        pyro.param(name, value)
    leaves = dict(pyro.get_param_store().named_parameters())
    print(json.dumps(pyro.__version__), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pyro.set_rng_seed(asked["seed"])
        torch.set_num_threads(asked["threads"])
        some = images[: asked["batch"]]
        mean = pyro.poutine.scale(scale=1 / len(some))
        programs = mean(model), mean(guide)
        for leaf in leaves.values():
            leaf.grad = None
        began = time.perf_counter()
        Trace_ELBO().loss_and_grads(*programs, some)
        answer: dict[str, Any] = {"seconds": time.perf_counter() - began}
        if asked["gradient"]:  # Pyro descends the negative ELBO.
            gradient = torch.cat([-leaves[name].grad.reshape(-1) for name in values]).numpy()
            answer["gradient"] = base64.b64encode(gradient).decode()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
