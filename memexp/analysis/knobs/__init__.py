"""Which knobs to change when nothing learns.

`table` reads the measured funnels (measured.json, made by benchmarks/knobs.py), `stage` finds where a funnel ends,
`suggest` the settings that move that stage, `find` the knobs of an answer.
"""
