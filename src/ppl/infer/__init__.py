"""Inference algorithms as values: what `marginal`, `normalize` and posterior sampling run."""

from ppl.infer.algorithm import Algorithm as Algorithm
from ppl.infer.algorithm import Retained as Retained
from ppl.infer.algorithm import Sample as Sample
from ppl.infer.importance import Importance as Importance
