"""Table 1 of "Probabilistic Programming with Programmable Variational Inference" (PLDI 2024), with its peers.

Everyone computes the same single-draw estimate of

    (1/B) sum_b E_q[log p(x_b | z_b) + log p(z_b) - log q(z_b | x_b)]

and its gradient in all weights: encoder 784-200-20, 10 latents, decoder 10-200-784, leaky ReLU, Bernoulli
pixels, float32. Batches of 64, 128, 256, 512 and 1024, in turns, 300 calls of each.

    python benchmarks/vae_gradient.py [--artifact] [--repeats 300] [--batches 64 128 ...] [--no-peers]
                                      [--json FILE] [--staging] [--pyro PYTHON]

Fails if a bar is missed, or if somebody's gradient is another one.

What differs from the paper, on purpose:

- Its artifact takes a sigmoid of the decoder's output for the logits, in both columns, so that no pixel is
  less probable than 0.5 or more than 0.73; and it returns the gradient of each datum, together 1.3 GB for a
  batch of 1024, which no training needs. `--artifact` has both, for everybody but Pyro.
- It does not wait for the device, so that it measures how fast work is handed over. Here every call does.
- Its images are MNIST's. Here they are random bits of that size: no time depends on their values.
- Its other column is code by hand alone. Here GenJAX in two forms, NumPyro, and Pyro with one thread and with
  all, its checks of values off, run too.
- Means and standard deviations of times that others share say little; bars go by medians, whose ratios are
  printed with their standard errors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _pyro_process import PYRO
from _timing import STAGING_HEADER, in_turns, machine, staging_rows, table
from _vae_contestants import (
    ARTIFACT,
    CORRECTED,
    HIDDEN,
    LATENT,
    PIXELS,
    Form,
    contestants,
    data_of,
    parameters,
)
from _vae_measure import agree, compiled, pyro

BATCHES = [64, 128, 256, 512, 1024]
BAR = 1.05
NO_PYRO = "not run: make bench-peers"
NOT_EACH = "not run: has no gradient of each datum"

# Of each batch, everybody's times in milliseconds.
Times = dict[int, dict[str, list[float]]]


def measured(
    form: Form, repeats: int, batches: list[int], peers: bool, python: Path, draws: int
) -> tuple[Times, dict[str, float]]:
    """All times, and by how much the mean gradients at the smallest batch differ."""
    params, times, apart = parameters(), {}, {}
    gradients = {name: make() for name, make in contestants(form, peers).items()}
    with pyro(params, data_of(max(batches)), python if peers and not form.each else None) as theirs:
        for batch in sorted(batches):
            data = data_of(batch)
            all_ = {name: compiled(gradient, form, params, data) for name, gradient in gradients.items()}
            all_ |= {name: made(batch) for name, made in theirs.items()}
            if batch == min(batches):
                apart = agree(all_, draws)
            found = in_turns({name: one.seconds for name, one in all_.items()}, repeats)
            times[batch] = {name: [1e3 * x for x in seconds] for name, seconds in found.items()}
    return times, apart


def relative(found: dict[str, list[float]], name: str, base: str) -> tuple[float, float]:
    """A ratio of two medians, and its standard error: a bootstrap over rounds, which both took part in."""
    pair = np.array([found[name], found[base]])
    chosen = np.random.default_rng(0).integers(pair.shape[1], size=(1000, pair.shape[1]))
    medians = np.median(pair[:, chosen], axis=-1)
    one, other = np.median(pair, axis=-1)
    return float(one / other), float(np.std(medians[0] / medians[1]))


def report(times: Times, peers: bool, form: Form) -> str:
    rows = []
    for batch, found in times.items():
        for name, taken in found.items():
            ratio, error = relative(found, name, "hand-written")
            quick = sorted(taken)[len(taken) // 10]
            figures = (statistics.median(taken), statistics.stdev(taken), quick, ratio, error)
            rows.append((str(batch), name, *(f"{figure:.2f}" for figure in figures)))
        if peers and not any(name.startswith("Pyro") for name in found):
            rows.append((str(batch), "Pyro " + (NOT_EACH if form.each else NO_PYRO), *[""] * 5))
    header = ("batch", "written with", "median ms", "sd", "one in ten below", "times by hand", "se")
    return table(header, rows)


def bars(times: Times) -> list[tuple[str, bool]]:
    """By medians: not slower than by hand by more than a twentieth, and faster than GenJAX and Pyro."""
    judged = []
    for batch, found in times.items():
        ratio, error = relative(found, "ppl", "hand-written")
        judged.append((f"{batch}: {ratio:.3f} ± {error:.3f} times by hand, at most {BAR}", ratio <= BAR))
        for name in found:
            if name.startswith(("GenJAX", "Pyro")):
                faster, error = relative(found, name, "ppl")
                judged.append((f"{batch}: {faster:.2f} ± {error:.2f} times as fast as {name}", faster > 1))
    return judged


def staging(form: Form, peers: bool) -> str:
    """Tracing and compiling, at a batch of 64."""
    arguments = (jax.random.key(0), parameters(), data_of(64))
    made = contestants(form, peers).items()
    fresh = {name: lambda make=make: (make(), arguments) for name, make in made}
    return table(STAGING_HEADER, staging_rows("VAE", fresh, 3))


def main(
    repeats: int = 300, batches: list[int] = BATCHES, peers: bool = True, file: Path | None = None,
    artifact: bool = False, compiling: bool = False, python: Path = PYRO, draws: int = 100,
) -> dict[str, Any]:  # fmt: skip
    form = ARTIFACT if artifact else CORRECTED
    times, apart = measured(form, repeats, batches, peers, python, draws)
    judged = bars(times)
    data = {
        "date": time.strftime("%Y-%m-%d"), "machine": machine(), "form": form._asdict(), "repeats": repeats,
        "milliseconds": times, "apart": apart, "bars": dict(judged),
    }  # fmt: skip
    if file is not None:
        file.write_text(json.dumps(data, indent=1) + "\n")
    of = "of each datum's ELBO, sigmoids as logits" if artifact else "of the mean ELBO"
    print(f"Gradient {of}, VAE {PIXELS}-{HIDDEN}-{LATENT}: {repeats} calls in turns; {data['machine']}\n")
    print(report(times, peers, form))
    print(f"\nMeans of {draws} gradients agree; from by hand, in lengths of the gradient: " + ", ".join(
        f"{name} {distance:.3f}" for name, distance in apart.items()
    ))  # fmt: skip
    print("\n" + "\n".join(f"{'held  ' if held else 'MISSED'}  {text}" for text, held in judged))
    if compiling:
        print(f"\nStaging and compiling it, batch 64, median of 3\n{staging(form, peers)}")
    if missed := [text for text, held in judged if not held]:
        raise SystemExit(f"{len(missed)} bars are missed")
    return data


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Table 1, with its peers.")
    parser.add_argument("--artifact", action="store_true", help="with the quirks of the paper's own code")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--json", dest="file", type=Path, help="where to write all figures")
    parser.add_argument("--staging", dest="compiling", action="store_true", help="trace and compile too")
    parser.add_argument("--pyro", dest="python", type=Path, default=PYRO, help="a Python that has Pyro")
    main(**vars(parser.parse_args()))
