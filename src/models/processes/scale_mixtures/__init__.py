"""Scale mixtures of neural network Gaussian processes.

Lee, Yun, Yang, Lee, "Scale mixtures of neural network Gaussian processes", ICLR 2022.

A network with random weights tends to a Gaussian process as its layers grow (the NNGP). Let all weights of
the last layer share one random variance s ~ H, and the limit is a mixture of Gaussian processes over scales:

    f | s ~ GP(0, s K),  s ~ H;     for H = InverseGamma(a, b) a t process, 2a degrees of freedom, (b / a) K

Claim: as good as the Gaussian process where the data are of the kind that was trained on, better where they
are not, since the width of the predictions adapts to the size of what is seen; the mean is the same.

- `conjugate`: the closed forms, for an inverse-gamma scale.
- `regression`: the programs of a task, and bounds of its evidence with several estimators of gradients;
  `burr` is a law of the scale that is not conjugate.
- `generic`: any law of the scale, by weighted draws.
- `windows`, `tasks`, `forecast`: quarters of macroeconomic series, whose scale differs from task to task, and
  from decade to decade. On one data set (`single`) there is only one scale, and nothing to gain.
- `classification`: the sparse variational t process, on digits and corrupted digits.
- `networks`: finite networks as programs; one scale for all weights against one for each.
- `headline`: all of it, beside the Gaussian process.
"""
