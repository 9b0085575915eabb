"""How close generated pictures are to paintings, how varied and how original.

No number here is an FID, and none compares with papers: the features are those of EfficientNet-Lite0. Each stands
beside what real paintings score instead.
"""
