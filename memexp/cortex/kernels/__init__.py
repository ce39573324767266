"""Recurrences over time, fast and plain: the readable loop stands beside each fast form and is its oracle."""
