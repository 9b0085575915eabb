"""Metrics of generated pictures: how close they are to paintings, how varied and how original.

`kid`, `kid_coarse`, density and coverage use the features of EfficientNet-Lite0, so they do not compare with published
FIDs and KIDs; each metric is reported beside the score of real paintings. FID and KID of the Inception network are
optional.
"""
