"""A variational autoencoder on scikit-learn's handwritten digits, against a Gaussian fitted by PCA.

    z ~ Normal(0, I), 16 numbers      x | z ~ Normal(loc(z), scale(z)), 64 pixels      z | x is guided

where loc, scale and the guide's own are small networks. In the program `jax.vmap` runs over the images.

What is compared. An image is 64 counts c of 0 to 16. Both models are densities of the same numbers
x = c + u, with u uniform on [0, 1) and independent for each pixel (dequantization), with respect to the
Lebesgue measure on R^64. The integral of such a density over the cell of side 1 above c is a probability
of c, so that by Jensen's inequality the mean of log p(x) over u is a lower bound of the log probability of
the counts (Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016): the nats
below are comparable with those of models of the counts. For pixels scaled to [0, 1] add 64 log 17 = 181.33
to each. The noise of the held-out images is drawn once, and is the same for both.

- PCA: the log density is exact (Tipping, Bishop, "Probabilistic principal component analysis", 1999); the
  number of components is chosen on validation images. With 63 of 64 it is a Gaussian of full covariance.
- VAE (Kingma, Welling, "Auto-encoding variational Bayes", 2014): IWELBO(500), a lower bound of its log
  density in expectation (Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from vae_plot import image_picture, latent_picture

import ppl

OUTPUT = Path(__file__).parent / "output"
PIXELS, LEVELS = 64, 17
LATENTS, HIDDEN = 16, 128  # chosen, as were the number of steps and the decay, on the validation images


def layers(key: jax.Array, *sizes: int) -> list[dict[str, jax.Array]]:
    """Weights of a network of fully connected layers."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) / m**0.5, "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]


def network(weights: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    for layer in weights[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    return x @ weights[-1]["w"] + weights[-1]["b"]


def pixels(theta, z):
    """Center and scale of each pixel; the noise of dequantization alone has the scale 0.29."""
    loc, scale = jnp.split(network(theta, z), 2)
    return LEVELS * jax.nn.sigmoid(2.0 * loc), 0.25 + LEVELS * jax.nn.softplus(scale - 2.0)


def code(phi, x):
    """Center and scale of each latent variable, given the image."""
    loc, scale = jnp.split(network(phi, 3.0 * x / LEVELS - 1.0), 2)
    return loc, jax.nn.softplus(scale + 0.5)


@ppl.gen
def decoder(theta):
    z = ppl.normal(jnp.zeros(LATENTS), 1.0) @ "z"
    ppl.normal(*pixels(theta, z)) @ "x"


@ppl.gen
def encoder(phi, x):
    ppl.normal(*code(phi, x)) @ "z"


@ppl.expectation
def elbo(params, counts):
    """The mean over a batch of images; the noise of dequantization is part of the expectation."""
    images = counts + ppl.uniform(jnp.zeros(counts.shape), 1.0) @ "u"
    bound = lambda x: ppl.elbo(decoder(params["decoder"]).condition({"x": x}), encoder(params["encoder"], x))
    return jnp.mean(jax.vmap(bound)(images))


def held_out(params: Any, images: np.ndarray, key: jax.Array, particles: int) -> np.ndarray:
    """IWELBO of each image, in nats; one image at a time, to need little memory."""

    @ppl.expectation
    def iwelbo(x):
        guide = encoder(params["encoder"], x)
        return ppl.iwelbo(particles)(decoder(params["decoder"]).condition({"x": x}), guide)

    keys = jax.random.split(key, len(images))
    one = lambda key_and_image: iwelbo.estimate(*key_and_image)
    return np.asarray(jax.lax.map(one, (keys, jnp.asarray(images))))


class Data(NamedTuple):
    """Counts to train on; dequantized images to choose by and to report on, with their labels."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    labels: np.ndarray


def digits(seed: int = 0) -> Data:
    """The 1,797 digits in random order: 1,200 to train on, 300 for validation, 297 held out."""
    bunch = load_digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(bunch.data))
    counts = bunch.data[order].astype(np.float32)
    noisy = (counts + random.random(counts.shape)).astype(np.float32)
    return Data(counts[:1200], noisy[1200:1500], noisy[1500:], bunch.target[order][1500:])


def fit_pca(data: Data, copies: int = 5, seed: int = 1) -> PCA:
    """The PCA Gaussian, with the number of components that is best on the validation images."""
    counts = np.tile(data.train, (copies, 1))
    images = counts + np.random.default_rng(seed).random(counts.shape)
    candidates = (PCA(k).fit(images) for k in (2, 5, 10, 20, 30, 40, 50, 60, 63))
    return max(candidates, key=lambda pca: pca.score(data.valid))


def fit_vae(data: Data, key: jax.Array, steps: int) -> Any:
    initial, training = jax.random.split(key)
    encoder_key, decoder_key = jax.random.split(initial)
    params = {
        "encoder": layers(encoder_key, PIXELS, HIDDEN, HIDDEN, 2 * LATENTS),
        "decoder": layers(decoder_key, LATENTS, HIDDEN, HIDDEN, 2 * PIXELS),
    }
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=0.1)
    return ppl.fit(elbo, params, optimizer, key=training, steps=steps, data=data.train, batch_size=100).params


class Scores(NamedTuple):
    """Nats of each held-out image."""

    pca: np.ndarray
    vae: np.ndarray
    vae_elbo: np.ndarray


def table(scores: Scores, components: int, particles: int) -> str:
    rows = {
        f"PCA Gaussian, {components} components": scores.pca,
        "VAE, ELBO": scores.vae_elbo,
        f"VAE, IWELBO({particles})": scores.vae,
        "VAE IWELBO - PCA, image by image": scores.vae - scores.pca,
    }
    show = lambda nats: f"{nats.mean():>9.2f} ± {nats.std(ddof=1) / len(nats) ** 0.5:.2f}"
    lines = [f"{'held-out nats per image':36} mean ± standard error, {len(scores.pca)} images"]
    return "\n".join(lines + [f"{name:36}{show(nats)}" for name, nats in rows.items()])


def main(steps: int = 2000, particles: int = 500, output: Path = OUTPUT) -> Scores:
    began = time.perf_counter()
    data = digits()
    pca = fit_pca(data)
    print(
        f"Digits: PCA chose {pca.n_components_} components ({time.perf_counter() - began:.1f} s).", flush=True
    )
    fit_key, score_key, elbo_key, draw_key = jax.random.split(jax.random.key(0), 4)
    params = fit_vae(data, fit_key, steps)
    print(f"VAE: {steps} steps ({time.perf_counter() - began:.1f} s).", flush=True)
    scores = Scores(
        pca.score_samples(data.test),
        held_out(params, data.test, score_key, particles),
        held_out(params, data.test, elbo_key, 1),
    )
    print(table(scores, pca.n_components_, particles), flush=True)
    output.mkdir(parents=True, exist_ok=True)
    print(f"Pictures: {pictures(params, pca, data, draw_key, output)} ({time.perf_counter() - began:.1f} s)")
    return scores


def pictures(params: Any, pca: PCA, data: Data, key: jax.Array, output: Path) -> str:
    """Held-out images with their reconstructions, draws of both models, and the latent space."""
    phi, theta = params["encoder"], params["decoder"]
    codes = jax.vmap(lambda x: code(phi, x)[0])(data.test)
    centers = jax.vmap(lambda z: pixels(theta, z)[0])(codes)
    drawn = jax.vmap(decoder(theta).simulate)(jax.random.split(key, 36)).choices["x"]
    gaussian = np.random.default_rng(2).multivariate_normal(pca.mean_, pca.get_covariance(), 36)
    return ", ".join(
        str(path)
        for path in (
            image_picture(data.test, centers, drawn, gaussian, output / "vae_images.png"),
            latent_picture(codes, data.labels, output / "vae_latents.png"),
        )
    )


if __name__ == "__main__":
    main()
