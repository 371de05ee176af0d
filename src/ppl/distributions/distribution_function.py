"""Distribution functions of univariate families, with derivatives in every parameter.

NumPyro's own are values to a few digits in the tails, and many have no derivative in a parameter that JAX's special
functions lack. Here a family is two small functions:

- a *standardization* S(x; theta), increasing or decreasing in x, whose law does not depend on theta. What moves a draw
  at a fixed value of its distribution function keeps S fixed, so that

      dx/dtheta = -(dS/dtheta) / (dS/dx),      dF(x)/dtheta = p(x) (dS/dtheta) / (dS/dx) sign

- the *tails* log F and log(1 - F), accurate where they are small. Their derivatives come from S and the density.

Adding a family is one rule.

Reference: Figurnov, Mohamed, Mnih, "Implicit reparameterization gradients", 2018, section 3.
"""
