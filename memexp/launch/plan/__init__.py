"""What to launch: recipe or matrix file -> the runs, their configs, and what they cost."""
