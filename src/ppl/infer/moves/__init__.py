"""Moves: Markov kernels that leave a target invariant, one a file."""

from ppl.infer.moves.composed import Cycle as Cycle
from ppl.infer.moves.composed import Repeat as Repeat
from ppl.infer.moves.hamiltonian import HMC as HMC
from ppl.infer.moves.hamiltonian import NUTS as NUTS
from ppl.infer.moves.mala import MALA as MALA
from ppl.infer.moves.move import Density as Density
from ppl.infer.moves.move import Info as Info
from ppl.infer.moves.move import Kernel as Kernel
from ppl.infer.moves.move import Move as Move
from ppl.infer.moves.random_walk import RandomWalk as RandomWalk
from ppl.infer.moves.regenerate import Regenerate as Regenerate
