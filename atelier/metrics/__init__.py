"""Metrics of generated pictures: how close they are to paintings, how varied and how original.

Each is reported beside the score of real paintings. Only the optional FID and KID of Inception compare with papers.
"""
