"""Variational objectives, as programs over measures.

Each is called inside `@ppl.expectation`, like a user's own. Its value is a random number; what it bounds
is a statement about the expected value. Write `p` for an unnormalized target (a conditioned program), `Z`
for its total mass (the evidence) and `q` for the guide.

`elbo`, `iwelbo` and `forward_kl` are the bounds. The others have the value of one of them, or its expected
value, and derivatives of less variance.
"""

from ppl.objectives.bounds import elbo as elbo
from ppl.objectives.bounds import forward_kl as forward_kl
from ppl.objectives.bounds import iwelbo as iwelbo
from ppl.objectives.dreg import dreg as dreg
from ppl.objectives.sticking_the_landing import sticking_the_landing as sticking_the_landing
from ppl.objectives.vargrad import vargrad as vargrad
from ppl.objectives.vimco import vimco as vimco
