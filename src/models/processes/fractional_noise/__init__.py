"""Variational inference for stochastic differential equations driven by fractional noise."""
