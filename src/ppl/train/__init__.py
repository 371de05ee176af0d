"""Training: objectives ascended by stochastic gradients."""

from ppl.train.fit import FitResult, fit

__all__ = ["FitResult", "fit"]
