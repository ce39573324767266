"""Sends planned runs to SkyPilot as managed jobs; `node` is what runs there."""
