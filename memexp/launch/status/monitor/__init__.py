"""`memexp monitor`: a dashboard of one run or of a whole matrix, read from run directories while others write them.

`metrics` reads what was appended, `look` says how a run stands, `target` finds the runs, `one` and `many` draw them,
`screen` shows it all.
"""
