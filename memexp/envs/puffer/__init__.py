"""Gymnasium and PettingZoo environments as a VecEnv, through PufferLib's vectorisation, or Gymnasium's.

source.py      makes one environment from gym:ID, module:MODULE:CALLABLE or pettingzoo:MODULE
spaces.py      translates its spaces into those of `memexp.spaces`
api_checks.py  checks that it keeps the interface of Gymnasium or PettingZoo
masks.py       makes action masks a part of its observations
emulated.py    steps one environment into shared buffers: resets, seeds, last observations, errors
vector.py      Gymnasium's vector environments, where PufferLib is not installed
workers.py     steps many environments, in this process or in worker processes
env.py         presents all of them as a VecEnv
batched.py     presents a vector environment, which steps a whole batch, as a VecEnv
"""
