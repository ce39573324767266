"""The recurrent cells, one file a cell. All are called alike:

    y, state = cell(x, state, resets)

with x and y `[B, T, H]`, `state` a flat dict of tensors `[B, ...]` (from `cell.init_state(batch, device, dtype)`) that
the caller owns, and `resets` `[B, T]` bool or None: True where step t starts a new episode and the state is cleared
before that step. T calls with one step each and one call with T steps give the same y and state.

`state=None` means that *every* step starts from a fresh state (the memory-ablated twin): y is what a first step
gives, computed for all steps at once, and the returned state is empty.
"""
