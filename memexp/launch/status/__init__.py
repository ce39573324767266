"""The status of every run, on this machine and in the cloud; monitoring, cancelling, logs and messages."""
