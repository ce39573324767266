"""Scripted players of the grid games: reference levels that agents are measured by.

view.py     the tokens of one observation as a window of cells
mind.py     a map for each player, and where it is on it       paths.py   the way to the nearest of what is wanted
full.py     the same knowledge from the whole state of a world
assembly.py players of assembly_lines
player.py   `make_player`                                      levels.py  mean returns of all players
"""

from memexp.envs.players.player import PLAYERS as PLAYERS
from memexp.envs.players.player import Player as Player
from memexp.envs.players.player import make_player as make_player
