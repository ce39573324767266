"""Which task an episode plays next.

`schedule` gives tasks to the worlds of all ranks, drawn evenly (`uniform`, where held-out tasks are too) or from a pool
that follows what is being learned (`learning_progress`).
"""
