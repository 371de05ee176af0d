"""Deep kernel machines: what deep Gaussian processes learn in the limit of infinite width.

Yang, Robeyns, Milsom, Anson, Schoots, Aitchison, "A theory of representation learning gives a deep
generalisation of kernel methods", ICML 2023.

A deep Gaussian process depends on the features of a layer by their Gram matrix alone:

    F_l | G_(l-1): N_l independent columns N(0, K(G_(l-1))),   G_l = F_l F_l' / N_l,   G_0 = X X' / N_0

Let the width N of the layers grow, and with it the number of outputs: how often the data are counted. Then
the posterior is a point mass on the Gram matrices that maximize, with N_l = nu_l N,

    L(G_1, ..., G_L) = nu_(L+1) log p(Y | G_L) - sum_l nu_l KL(N(0, G_l) || N(0, K(G_(l-1))))

Claim: these are learned representations, in a method that stays a kernel method. Each KL alone is least at
G_l = K(G_(l-1)), the Gram matrix of the NNGP, whose representations are not learned: there goes the limit
nu -> infinity, and that of infinite width for a fixed number of outputs.

- `objective`: L, its Gram matrices, and predictions.
- `network`: the deep Gaussian process of finite width as a program, whose ELBO by width converges to L.
- `sparse`: inducing points, minibatches and labels, with q(f) as a program.
- `headline`: learned against fixed representations, and what must fail.
"""
