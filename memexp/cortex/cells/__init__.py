"""The recurrent cells, one file each. All have the same interface:

    y, state = cell(x, state, resets)

x and y are `[B, T, H]`. The caller owns `state`, a flat dict of tensors `[B, ...]` from
`cell.init_state(batch, device, dtype)`. `resets` `[B, T]` (bool or None) is True where step t starts a new episode: the
state is cleared before that step. T calls with one step and one call with T steps give the same y and state.

With `state=None` (the memory-ablated twin) *every* step starts from a fresh state. The returned state is then empty.
"""
