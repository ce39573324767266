"""Which knobs to turn when nothing learns: where exploration ends, and what was measured under other settings.

`table` reads the measured funnels (measured.json, made by benchmarks/knobs.py), `stage` says where a funnel ends,
`suggest` which settings move that stage and what is predicted of them.
"""
