"""One episode to look at: recorded in one world, shown as a self-contained page or in the terminal.

    target.py    what is played: a run or an environment, found by its name; the world and the player
    players.py   who plays: a policy with what it thinks, a scripted player, the random policy
    record.py    plays the episode and keeps what it takes to show it     changes.py  how that is kept small
    facts.py     what does not change: names, map, objects, milestones
    looks.py     names, colours and shapes of what stands on a map
    play.py      `memexp play`: all of it in order
    page.py      the page; web/ holds its template, style and scripts
    terminal.py  the same episode as text                                 steps.py    worlds without a map, as text

Nothing imports this package but the command line.
"""
