"""`memexp monitor`: a live dashboard of a run or a matrix, read from run directories while trainers write them.

`snapshot` reads the runs, `one` and `many` draw them, and `screen` shows the drawing.
"""
