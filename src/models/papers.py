"""Which papers there are: the name of each, and the module that holds its `PAPER`."""

PAPERS: dict[str, str] = {
    "deep-kernel-machines": "models.processes.deep_kernel_machines.headline",
    "fractional-noise": "models.processes.fractional_noise.headline",
    "funbat": "models.processes.funbat.paper",
    "scale-mixtures": "models.processes.scale_mixtures.headline",
}
