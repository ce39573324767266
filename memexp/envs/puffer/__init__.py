"""Other people's environments as a VecEnv, through PufferLib's emulation and vectorisation.

source.py    from gym:ID, module:MODULE:CALLABLE or pettingzoo:MODULE to an environment
spaces.py    its spaces in this project's words
promises.py  the interfaces of Gymnasium and PettingZoo, which it must keep
world.py     one environment as PufferLib drives it: resets, seeds, the true last observation, what went wrong
workers.py   many of them, in this process or in workers
env.py       all of it as a VecEnv
"""
