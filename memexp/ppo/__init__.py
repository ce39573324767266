"""Recurrent PPO: rollout, advantage, update, trainer, checkpoint, evaluation.

`config` imports no torch; everything else does.
"""
