"""Replays a recorded episode of the original engine in ours and compares every value of every step."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import Sizes, State, allocate
from memexp.envs.grid.stats import agent_stat_names, game_stat_names, stat_number
from memexp.envs.grid.step import RECORDED, begin_worlds, step_worlds
from memexp.envs.grid.tables import Chest, Game, Protocol, Station, build, load


def recorded_game(meta: dict) -> tuple[Game, list[str]]:
    """The game of a recording and the names of its object types."""
    config, resources = meta["config"], meta["resource_names"]
    agent, number = config["agent"], {name: i for i, name in enumerate(meta["resource_names"])}
    tags = {name: int(i) for i, name in meta["tag_ids"].items()}
    vibes = [n.removeprefix("change_vibe_") for n in meta["action_names"][5:]]
    grouped = {r for group in agent["limits"].values() for r in group["resources"]}
    limits = [([number[r] for r in group["resources"]], group["limit"]) for group in agent["limits"].values()]
    if agent["default_limit"] < 65535:
        limits += [([number[r]], agent["default_limit"]) for r in resources if r not in grouped]

    def by_vibe(transfers: dict) -> list[tuple[int, int, int]]:
        return [(vibes.index(v), number[r], n) for v, amounts in transfers.items() for r, n in amounts.items()]

    names = meta["map_legend"][3:]
    types = []
    for name in names:
        kind = config["object_types"][name]
        tag = tags[kind["tags"][0]]
        if kind["kind"] == "chest":
            types.append(Chest(tag, by_vibe(kind["vibe_transfers"])))
            continue
        protocols = [
            Protocol(
                [(number[r], n) for r, n in p["inputs"]],
                [(number[r], n) for r, n in p["outputs"]],
                p["cooldown"],
                p["vibe_ids"],
                p["min_agents"],
            )
            for p in kind["protocols_engine_order"]
        ]
        types.append(Station(tag, protocols, kind["max_uses"], kind["allow_partial_usage"]))

    rewards = agent["rewards"]
    caps = {f"{r}.amount": cap for r, cap in rewards["inventory_max"].items()} | rewards["stats_max"]
    order = agent["stat_reward_sum_order"]
    goals = dict.fromkeys(s.split(".")[0] for s, _ in order if s.split(".")[0] in number)
    moving = config["actions"]["move"]
    costs = [
        (col.MOVE, number[r], moving["required_resources"].get(r, 0), moving["consumed_resources"].get(r, 0))
        for r in {**moving["required_resources"], **moving["consumed_resources"]}
    ]
    game = Game(
        max_steps=config["max_steps"],
        types=types,
        agent_tag=tags["agent"],
        wall_tag=tags["wall"],
        num_vibes=len(vibes),
        rewards=[(stat_number(stat, resources), weight, caps.get(stat, np.inf)) for stat, weight in order],
        limits=limits,
        costs=costs,
        regeneration=by_vibe(agent["regen_amounts"]),
        regen_interval=config["inventory_regen_interval"],
        shares=by_vibe(agent["vibe_transfers"]),
        goals=[number[r] for r in goals] if config["global_obs"]["goal_obs"] else [],
        compass=config["global_obs"]["compass"],
        diversity=[number[r] for r in agent["diversity_tracked_resources"]],
        initial=[(number[r], n) for r, n in agent["initial_inventory"].items()],
    )
    return game, names


def recorded_world(meta: dict, cells: np.ndarray) -> tuple[State, Sizes, list[str]]:
    """One world at the start of a recorded episode, its sizes and the names of its object types."""
    game, names = recorded_game(meta)
    tables = build(game)
    chests = [3 + k for k, kind in enumerate(game.types) if isinstance(kind, Chest)]
    sizes = Sizes(
        *cells.shape,
        agents=int((cells == 2).sum()),
        objects=int((cells >= 3).sum()),
        chests=int(np.isin(cells, chests).sum()),
        types=len(tables.types),
        protocols=len(tables.protocols),
        vibes=tables.protocols.shape[1] - col.VIBES,
        rows=max(1, len(tables.rows)),
        rewards=len(tables.reward_terms),
    )
    state = allocate(1, sizes)
    load(state, 0, tables)
    load_map(state, 0, cells, sizes)
    begin_worlds(state, np.zeros(1, np.int64), room_for(0, 0), True)
    return state, sizes, names


def on_host(s: State) -> Callable[[np.ndarray], None]:
    """One step of the world by the actions [1, A], where it is."""
    one_step = np.ones(1, np.int64)
    return lambda actions: step_worlds(s, actions, one_step, RECORDED)


def on_device(s: State, sizes: Sizes) -> Callable[[np.ndarray], None]:
    """The same by kernels on the GPU (or its simulator), where the world is carried before each step and from after."""
    import torch

    from memexp.envs.grid.cuda import SIMULATED, Turn, launches
    from memexp.envs.grid.memory import Block, shared, stream_of

    device = torch.device("cpu" if SIMULATED else "cuda")
    block = Block(sizes, 1, device)
    ours = torch.zeros(1, sizes.agents, dtype=torch.int64, device=device)
    steps = torch.ones(1, dtype=torch.int64, device=device)
    seen = torch.zeros(1, sizes.agents, dtype=torch.int32, device=device)
    dones = torch.zeros(1, sizes.agents, dtype=torch.bool, device=device)
    turn = Turn(shared(ours), shared(steps), shared(seen), shared(dones))

    def step(actions: np.ndarray) -> None:
        block.load({name: getattr(s, name) for name in block.tensors})
        ours.copy_(torch.from_numpy(actions))
        for enqueue in launches(block.state, turn, RECORDED, stream_of(ours)).values():
            enqueue()
        for name, array in block.host().items():
            np.copyto(getattr(s, name), array)
        assert (dones.cpu().numpy() == s.terminated[:, None]).all()

    return step


def replay(path: Path, max_steps: int | None = None, device: bool = False) -> int:
    """Replay one recording (or its first steps); fails at the first value that differs, returns the steps compared."""
    meta = json.loads(path.with_suffix(".json").read_text())
    with np.load(path) as file:
        z = {name: file[name] for name in file.files}
    s, sizes, names = recorded_world(meta, z["map"])
    step = on_device(s, sizes) if device else on_host(s)
    width = z["map"].shape[1]
    stations = np.setdiff1d(np.arange(len(z["objects"])), z["chest_index"])

    def equal(ours: np.ndarray, recorded: np.ndarray, what: str, t: int) -> None:
        if not np.array_equal(ours, recorded):
            np.testing.assert_array_equal(ours, recorded, f"{path.stem}, after step {t}: {what}")

    def compare(t: int) -> None:
        equal(s.obs[0], z["obs"][t], "observations", t)
        cells = s.agents[0, :, col.CELL]
        equal(np.stack([cells // width, cells % width], 1), z["agent_pos"][t], "positions", t)
        equal(s.agents[0, :, col.VIBE], z["agent_vibe"][t], "vibes", t)
        amounts, num_agents = s.inventory[0, :, : col.NUM_RESOURCES], len(cells)
        equal(amounts[:num_agents], z["agent_inventory"][t], "inventories", t)
        equal(amounts[num_agents:], z["chest_inventory"][t], "chests", t)
        objects = s.objects[0, stations]
        equal(np.maximum(0, objects[:, col.END] - t), z["object_cooldown"][t, stations], "cooldowns", t)
        equal(objects[:, col.USES], z["object_uses"][t, stations], "uses", t)

    compare(0)
    for t, (actions, order) in enumerate(zip(z["actions"][:max_steps], z["order"][:max_steps], strict=True)):
        s.agents[0, :, col.TURN] = order
        step(actions[None].astype(np.int64))
        compare(t + 1)
        equal(s.rewards[0], z["rewards"][t], "rewards", t + 1)
        equal(s.agents[0, :, col.SUCCESS], z["action_success"][t], "success", t + 1)
        assert (z["terminals"][t] == s.terminated[0]).all()
        assert not z["truncations"][t].any()

    if max_steps is not None:
        return t + 1
    resources, final = meta["resource_names"], meta["final_stats"]
    assert game_stats(s, 0, resources, names) == {k: v for k, v in final["game"].items() if v}
    for agent, expected in enumerate(final["agent"]):
        assert agent_stats(s, 0, agent, resources) == {k: v for k, v in expected.items() if v}
    np.testing.assert_array_equal(s.agent_stats[0, :, col.RETURN], np.float32(meta["episode_rewards"]))
    return len(z["actions"])


def agent_stats(s: State, w: int, agent: int, resources: Sequence[str]) -> dict[str, float]:
    """The statistics of one agent by name, those that are 0 left out."""
    named = dict(zip(agent_stat_names(resources), s.agent_stats[w, agent, : col.AGENT_STATS].tolist(), strict=True))
    seen = s.invalid_seen[w, agent].tolist()
    named |= {f"action.invalid_index.{index}": float(count) for index, count in seen if count}
    return {name: value for name, value in named.items() if value}


def game_stats(s: State, w: int, resources: Sequence[str], type_names: Sequence[str]) -> dict[str, float]:
    """The statistics of a world by name, those that are 0 left out; `type_names` by type number."""
    named = dict(zip(game_stat_names(resources), s.game_stats[w].tolist(), strict=True))
    kinds = s.objects[w, : s.world[w, col.NUM_OBJECTS], col.TYPE]
    for kind, count in enumerate(np.bincount(kinds, minlength=len(type_names)).tolist()):
        named[f"objects.{type_names[kind]}"] = float(count)
    stride = int(s.window[4, 0])
    height, width = s.world[w, [col.HEIGHT, col.WIDTH]]
    named["objects.wall"] = float(np.count_nonzero(s.grid[w].reshape(-1, stride)[:height, :width] == col.WALL))
    return {name: value for name, value in named.items() if value}


def load_map(s: State, w: int, cells: np.ndarray, sizes: Sizes) -> None:
    """Put the map `cells` [H, W] into world w: 0 empty, 1 wall, 2 agent, 3 + k an object of type k.

    Agents and objects are numbered in row-major order. Raises ValueError unless the border is 5 cells of wall.
    """
    inside = cells[col.BORDER : -col.BORDER, col.BORDER : -col.BORDER]
    if inside.size == 0 or np.count_nonzero(cells != col.WALL) != np.count_nonzero(inside != col.WALL):
        raise ValueError(f"the map must have a border of {col.BORDER} cells of wall")
    height, width = cells.shape
    s.world[w, [col.HEIGHT, col.WIDTH]] = height, width
    grid = s.grid[w].reshape(sizes.height, sizes.width)
    grid[:] = col.WALL
    grid[:height, :width] = np.minimum(cells, 1)
    agents = np.argwhere(cells == 2)
    for a, (row, column) in enumerate(agents):
        grid[row, column] = col.AGENTS + a
        s.agents[w, a, col.CELL] = row * sizes.width + column
    objects, slot = np.argwhere(cells >= 3), sizes.agents
    s.world[w, col.NUM_OBJECTS] = len(objects)
    for o, (row, column) in enumerate(objects):
        kind = cells[row, column] - 3
        is_chest = s.types[w, kind, col.KIND] == col.CHEST
        grid[row, column] = col.AGENTS + sizes.agents + o
        s.objects[w, o, : col.SLOT + 1] = row * sizes.width + column, kind, 0, 0, 0, slot if is_chest else -1
        slot += int(is_chest)
