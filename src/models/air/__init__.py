"""Attend, infer, repeat: how many objects are on a canvas, where, and what.

Eslami, Heess, Weber, Tassa, Szepesvari, Kavukcuoglu, Hinton, "Attend, infer, repeat: fast scene
understanding with generative models", 2016; as in figure 7 of Becker, Lew, Wang, Ghavami, Huot, Rinard,
Mansinghka, "Probabilistic programming with programmable variational inference", PLDI 2024. The claim of that
figure: which gradient estimator the presence of an object gets, which takes one line to change, decides
whether and how fast the model learns to count.

`data.py` makes the canvases, `nets.py` has the networks and the spatial transformer, `model.py` the model and
the guide, `objectives.py` the objectives with their estimators, `train.py` the training and the scores.
"""
