"""Three of the five rows in Pyro: a process of its own, in the environment of its own.

    python _cone_pyro.py REQUEST

where REQUEST is JSON: for each row its start, and its schedules as steps, batch and Adam rate; how many
draws make a value, and how many steps are timed. It prints a line of JSON a row. It knows nothing of `ppl`
or JAX. Particles are vectorized.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, TraceGraph_ELBO
from pyro.optim import SGD, CosineAnnealingLR

RADIUS = 5.0**0.5


def cone():
    x = pyro.sample("x", dist.Normal(0.0, 10.0))
    y = pyro.sample("y", dist.Normal(0.0, 10.0))
    s = x**2 + y**2
    pyro.sample("z", dist.Normal(s, 0.1 + s / 100.0), obs=torch.tensor(5.0))


def blob():
    pyro.sample("x", dist.Normal(pyro.param("mx"), pyro.param("lx").exp()))
    pyro.sample("y", dist.Normal(pyro.param("my"), pyro.param("ly").exp()))


def ring():
    theta = 2.0 * math.pi * pyro.sample("u", dist.Uniform(0.0, 1.0))
    pyro.sample("x", dist.Normal(RADIUS * theta.cos(), pyro.param("lx").exp()))
    pyro.sample("y", dist.Normal(RADIUS * theta.sin(), pyro.param("ly").exp()))


def cone_with_reverse():
    cone()
    pyro.sample("u", dist.Uniform(0.0, 1.0))


def elbo(batch, optimizer):
    loss = TraceGraph_ELBO(num_particles=batch, vectorize_particles=True, max_plate_nesting=0)
    return SVI(cone, blob, optimizer, loss)


def iwelbo(batch, optimizer):
    loss = RenyiELBO(alpha=0, num_particles=5, vectorize_particles=True, max_plate_nesting=0)
    return SVI(cone, blob, optimizer, loss)


def hvi(batch, optimizer):
    loss = TraceGraph_ELBO(num_particles=batch, vectorize_particles=True, max_plate_nesting=0)
    return SVI(cone_with_reverse, ring, optimizer, loss)


WRITTEN = {
    "ELBO": ("blob", "elbo"),
    "IWELBO(5)": ("blob", "iwelbo"),
    "HVI": ("ring", "cone_with_reverse", "hvi"),
}
OBJECTIVES = {"ELBO": elbo, "IWELBO(5)": iwelbo, "HVI": hvi}


def values(name: str, draws: int) -> torch.Tensor:
    """Independent draws of the bound at the parameters as they are."""
    model, guide = (cone_with_reverse, ring) if name == "HVI" else (cone, blob)
    particles = 5 if name == "IWELBO(5)" else 1
    with torch.no_grad(), pyro.plate("draw", draws * particles):
        drawn = poutine.trace(guide).get_trace()
        scored = poutine.trace(poutine.replay(model, trace=drawn)).get_trace()
    densities = []
    for trace in (scored, drawn):
        trace.compute_log_prob()
        sites = [site for site in trace.nodes.values() if site["type"] == "sample" and site["name"] != "draw"]
        densities.append(sum(site["log_prob"] for site in sites))
    log_weights = (densities[0] - densities[1]).reshape(draws, particles)
    return log_weights.logsumexp(1).detach() - math.log(particles)


def prepared(name: str, start: dict[str, float], schedule: dict[str, Any]) -> tuple[Any, Any]:
    """A step from the start, and what follows each step."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    for key, value in start.items():
        pyro.param(key, torch.tensor(value))
    if not schedule["adam"]:
        return OBJECTIVES[name](schedule["batch"], SGD({"lr": schedule["ascent"]})), lambda: None
    arguments = {"lr": schedule["adam"], "betas": (0.9, 0.99)}
    optimizer = CosineAnnealingLR(
        {"optimizer": torch.optim.Adam, "optim_args": arguments, "T_max": schedule["steps"]}
    )
    return OBJECTIVES[name](schedule["batch"], optimizer), optimizer.step


def trained(name: str, start: dict[str, float], schedule: dict[str, Any], draws: int, few: int) -> Any:
    svi, after = prepared(name, start, schedule)
    for _ in range(schedule["steps"]):
        svi.step()
        after()
    found = values(name, draws)
    return {
        "few": float(found[:few].mean()),
        "value": float(found.mean()),
        "error": float(found.std()) / draws**0.5,
        "phi": {key: pyro.param(key).item() for key in start},
    }


def seconds(name: str, start: dict[str, float], schedule: dict[str, Any], block: int, rounds: int) -> Any:
    """Of the first step, and of one in the median block."""
    svi, _ = prepared(name, start, schedule)
    began = time.perf_counter()
    svi.step()
    first, blocks = time.perf_counter() - began, []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(block):
            svi.step()
        blocks.append((time.perf_counter() - began) / block)
    return {"first": first, "step": statistics.median(blocks)}


def main(request: dict[str, Any]) -> None:
    torch.set_num_threads(1)  # of one or two, what is faster for tensors of this size
    for name, row in request["rows"].items():
        start, found = row["start"], {}
        for schedule, numbers in row["schedules"].items():
            draws = request["converged" if schedule == "converged" else "draws"]
            found[schedule] = trained(name, start, numbers, draws, request["few"])
        found |= seconds(name, start, row["schedules"]["paper"], request["block"], request["rounds"])
        print(json.dumps({"row": name, "written": WRITTEN[name], **found}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
