"""Recurrences over time. Each fast kernel has a readable definition beside it, which its tests compare with."""
