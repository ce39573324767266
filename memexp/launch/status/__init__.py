"""The state of every run, on this machine and in the cloud."""
