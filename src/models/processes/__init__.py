"""Papers on stochastic processes."""
