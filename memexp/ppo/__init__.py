"""Recurrent PPO: `rollout` acts, `ppo` learns, `trainer` does both in turns, `session` trains a run to its end.

`config` imports no torch; everything else does.
"""
