"""Three rows of table 2 in Pyro: a process of its own, in the environment of its own.

    python _air_pyro.py FILE.npz

where the file has the parameters, the images and the constants of the model. It prints the names of its
rows as a line of JSON; then answers each line `{"name": ..., "seed": ...}` with the seconds that a gradient
took, the value, and the derivative in the bias of the presence. It knows nothing of `ppl` or JAX. The batch
is a plate, and all that it holds is vectorized; an enumerated flip is a dimension of its own.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO
from torch.nn.functional import leaky_relu, softplus


def affine(name: str, x: Any) -> Any:
    return x @ pyro.param(f"{name}/w") + pyro.param(f"{name}/b")


def network(name: str, x: Any) -> Any:
    return affine(f"{name}/1", leaky_relu(affine(f"{name}/0", x)))


def gaussian(x: Any) -> tuple[Any, Any]:
    loc, scale = x.chunk(2, -1)
    return loc, softplus(scale)


def recur(seen: Any, x: Any, state: Any) -> Any:
    hidden, cell = state
    shape = torch.broadcast_shapes(x.shape[:-1], hidden.shape[:-1])
    joined = torch.cat([x.expand(*shape, -1), hidden.expand(*shape, -1)], -1)
    update, forget, output, new = (seen + joined @ pyro.param("lstm/rest")).chunk(4, -1)
    cell = forget.sigmoid() * cell + update.sigmoid() * new.tanh()
    return output.sigmoid() * cell.tanh(), cell


def centers(size: int) -> Any:
    return (2 * torch.arange(size) + 1.0) / size - 1


def hat(at: Any, size: int) -> Any:
    position = ((at + 1) * size - 1) / 2
    return (1 - (position[..., None] - torch.arange(size)).abs()).clamp(min=0.0)


def place(window: Any, where: Any, canvas: int) -> Any:
    scale, x, y = where.split(1, -1)
    rows, columns = (hat(scale * centers(canvas) + shift, window.shape[-1]) for shift in (y, x))
    return rows @ window @ columns.transpose(-1, -2)


def attend(image: Any, where: Any, window: int) -> Any:
    scale, x, y = where.split(1, -1)
    rows, columns = (hat((centers(window) - shift) / scale, image.shape[-1]) for shift in (y, x))
    return rows @ image @ columns.transpose(-1, -2)


def model(values: dict[str, Any], infer: dict[str, Any]) -> None:
    images, whats = values["images"], pyro.param("decoder/0/w").shape[0]
    canvas: Any = torch.zeros_like(images)
    with pyro.plate("batch", len(images)):
        for slot, probability in enumerate(values["present"]):
            present = pyro.sample(f"present{slot}", dist.Bernoulli(probability))
            where = pyro.sample(f"where{slot}", dist.Normal(*values["where"]).to_event(1))
            what = pyro.sample(f"what{slot}", dist.Normal(torch.zeros(whats), 1.0).to_event(1))
            ink = network("decoder", what).sigmoid()
            side = math.isqrt(ink.shape[-1])
            drawn = place(ink.reshape(*ink.shape[:-1], side, side), where, images.shape[-1])
            canvas = canvas + present[..., None, None] * drawn
        pyro.sample("image", dist.Normal(canvas, values["noise"]).to_event(2), obs=images)


def guide(values: dict[str, Any], infer: dict[str, Any]) -> None:
    images, whats = values["images"], pyro.param("decoder/0/w").shape[0]
    window, smoothing = math.isqrt(pyro.param("encoder/0/w").shape[0]), values["smoothing"]
    seen = images.flatten(1) @ pyro.param("lstm/image") + pyro.param("lstm/b")
    state = (torch.zeros(seen.shape[-1] // 4),) * 2
    present = torch.ones(len(images))
    where, what = torch.zeros(len(images), 3), torch.zeros(len(images), whats)
    with pyro.plate("batch", len(images)):
        for slot in range(len(values["present"])):
            shape = torch.broadcast_shapes(present.shape, where.shape[:-1])
            x = [where.expand(*shape, -1), what.expand(*shape, -1), present.expand(shape)[..., None]]
            state = recur(seen, torch.cat(x, -1), state)
            found = affine("presence", state[0])[..., 0].sigmoid() * present
            probability = (smoothing + found) / (1 + 1.01 * smoothing)
            present = pyro.sample(f"present{slot}", dist.Bernoulli(probability), infer=infer)
            loc, scale = gaussian(affine("where", state[0]))
            offset = values["offset"]
            law = dist.Normal(offset[0] + offset[1] * loc, offset[1] * scale).to_event(1)
            where = pyro.sample(f"where{slot}", law)
            mean, spread = gaussian(network("encoder", attend(images, where, window).flatten(-2)))
            what = pyro.sample(f"what{slot}", dist.Normal(mean, spread).to_event(1))


ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "REINFORCE": (Trace_ELBO(), {}),
    "ENUM": (TraceEnum_ELBO(max_plate_nesting=1), {"enumerate": "parallel"}),
    "IWELBO(2) + REINFORCE": (
        RenyiELBO(alpha=0, num_particles=2, vectorize_particles=True, max_plate_nesting=1), {},
    ),
}  # fmt: skip


def main(path: str) -> None:
    torch.set_num_threads(1)  # of one or two, what is faster for tensors of this size
    with np.load(path) as stored:
        values = {name: torch.from_numpy(stored[name]) for name in stored}
    for name, value in values.items():
        if name.startswith("params/"):
            pyro.param(name.removeprefix("params/"), value)
    images = len(values["images"])
    leaves = dict(pyro.get_param_store().named_parameters())
    print(json.dumps(list(ROWS)), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pyro.set_rng_seed(asked["seed"])
        for leaf in leaves.values():
            leaf.grad = None
        loss, infer = ROWS[asked["name"]]
        began = time.perf_counter()
        value = loss.loss_and_grads(model, guide, values, infer)
        seconds = time.perf_counter() - began
        slope = leaves["presence/b"].grad  # of the negative bound, summed over images
        slope = 0.0 if slope is None else -float(slope) / images
        print(json.dumps({"seconds": seconds, "value": -value / images, "slope": slope}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
