"""Stochastic processes."""
