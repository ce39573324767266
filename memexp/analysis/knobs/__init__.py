"""Which knobs to change when nothing learns.

`table` reads the measured funnels (measured.json, made by benchmarks/knobs.py). `suggest` finds where a funnel ends,
the settings that move that stage, and the knobs of an answer.
"""
