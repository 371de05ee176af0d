"""Ready-made variational families, as programs over any conditioned model."""

from ppl.guides.mean_field import MeanField as MeanField
