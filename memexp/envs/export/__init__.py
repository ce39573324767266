"""Our worlds as other projects expect them: PufferLib, Gymnasium, PettingZoo. `memexp.envs` has the makers.

puffer.py      a `pufferlib.PufferEnv`, which PufferLib's own vectorisation and trainer take
gymnasium.py   a `gymnasium.vector.VectorEnv`, and a `gymnasium.Env` of one world
pettingzoo.py  a `pettingzoo.ParallelEnv` of one world's agents
worlds.py      what they share
"""
