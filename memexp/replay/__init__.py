"""One episode to watch: recorded in one environment, shown as a self-contained page or in the terminal.

    target.py      what to play: a run or an environment, found by name    policies.py  who acts, and its predictions
    record.py      plays the episode and keeps what is needed to show it   changes.py   a compact form of that
    facts.py       what stays the same: names, map, objects, milestones    appearance.py  names, colours and shapes
    play.py        `memexp play`
    page.py        the page; web/ holds its template, style and scripts
    terminal.py    the same episode as text                                steps.py     environments without a map

Only the command line imports this package.
"""
