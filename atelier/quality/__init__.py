"""How good, how varied and how original generated pictures are, without downloaded weights (GAN.md §4).

The features are those of a random network, so no number here is an FID and none compares with papers;
each stands beside its real-vs-real floor instead.
"""

from atelier.quality.features import FEATURES, FEATURES_VERSION, RandomFeatures, Reference
from atelier.quality.glances import Glance, glance
from atelier.quality.panel import Kin, Measure, Quality, judge

__all__ = [
    "FEATURES",
    "FEATURES_VERSION",
    "Glance",
    "Kin",
    "Measure",
    "Quality",
    "RandomFeatures",
    "Reference",
    "glance",
    "judge",
]
