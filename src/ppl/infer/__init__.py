"""Inference algorithms as values: what `marginal`, `normalize` and posterior sampling run."""

from ppl.infer.algorithm import Algorithm as Algorithm
from ppl.infer.algorithm import Particles as Particles
from ppl.infer.algorithm import Retained as Retained
from ppl.infer.algorithm import Sample as Sample
from ppl.infer.chains import Chains as Chains
from ppl.infer.chains import chains as chains
from ppl.infer.importance import Importance as Importance
from ppl.infer.moves import HMC as HMC
from ppl.infer.moves import MALA as MALA
from ppl.infer.moves import NUTS as NUTS
from ppl.infer.moves import Cycle as Cycle
from ppl.infer.moves import Move as Move
from ppl.infer.moves import RandomWalk as RandomWalk
from ppl.infer.moves import Regenerate as Regenerate
from ppl.infer.moves import Repeat as Repeat
from ppl.infer.pathfinder import Pathfinder as Pathfinder
from ppl.infer.resampling import Multinomial as Multinomial
from ppl.infer.resampling import Residual as Residual
from ppl.infer.resampling import Stratified as Stratified
from ppl.infer.resampling import Systematic as Systematic
from ppl.infer.run import run as run
from ppl.infer.smc import SMC as SMC
from ppl.infer.temperatures import temperatures as temperatures
from ppl.infer.tempered import Annealed as Annealed
from ppl.infer.tempered import Tempered as Tempered
