"""Variational objectives, as programs over measures.

Each is called inside `@ppl.expectation`, like a user's own. Its value is a random number; what it bounds
is a statement about the expected value. Write `p` for an unnormalized target (a conditioned program), `Z`
for its total mass (the evidence) and `q` for the guide.

`elbo`, `iwelbo` and `forward_kl` are the bounds that most are made of. `dreg`, `sticking_the_landing`,
`vargrad` and `vimco` have the value of one of them, or its expected value, and derivatives of less variance.
`scaled` makes a bound on all data of a batch. All these are `ppl.NAME` too; the rest are named
`ppl.objectives.NAME`.
"""

from ppl.objectives.bounds import elbo as elbo
from ppl.objectives.bounds import forward_kl as forward_kl
from ppl.objectives.bounds import iwelbo as iwelbo
from ppl.objectives.chi_upper import chi_moment as chi_moment
from ppl.objectives.chi_upper import chi_upper as chi_upper
from ppl.objectives.dreg import dreg as dreg
from ppl.objectives.f_divergence import f_divergence as f_divergence
from ppl.objectives.jeffreys import jeffreys as jeffreys
from ppl.objectives.jeffreys import simulation_jeffreys as simulation_jeffreys
from ppl.objectives.renyi import renyi as renyi
from ppl.objectives.scaled import scaled as scaled
from ppl.objectives.sticking_the_landing import sticking_the_landing as sticking_the_landing
from ppl.objectives.tempered import tempered as tempered
from ppl.objectives.thermodynamic import thermodynamic as thermodynamic
from ppl.objectives.vargrad import vargrad as vargrad
from ppl.objectives.vimco import vimco as vimco
from ppl.objectives.wake import sleep as sleep
from ppl.objectives.wake import wake_guide as wake_guide
from ppl.objectives.wake import wake_model as wake_model
