"""Which knobs to change when nothing learns: `suggest`, from the measured funnels of `table`."""
