"""Curricula: which task the next episode plays.

`schedule` gives tasks to the environments of all ranks, either drawn uniformly (`uniform`, which also draws held-out
tasks) or from a pool that follows the learning progress (`learning_progress`).
"""
