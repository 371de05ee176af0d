"""Functional Bayesian Tucker decomposition."""
