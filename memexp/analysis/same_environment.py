"""Which runs of an environment's name played the same environment: only those are pooled.

run.json says where the environment's code comes from, config.yaml which knobs it had. Runs that do not say it (of an
older memexp) are pooled with the first ones.
"""

from collections.abc import Sequence
from typing import Any

from memexp.analysis.formatting import names_text
from memexp.analysis.seeds import Seed
from memexp.formatting import counted
from memexp.runs.identity import CODE, THEN, apart, changes_text, code_apart

LEVELS = ("ceiling_return", "solved_return", "memory_span", "partner")
NOT_THE_WORLD = ("backend", "workers", "reward_scale", "reading", *LEVELS)
"""Keys of config.yaml's `env` that do not change what happens in the environment."""


def same_environments(name: str, seeds: Sequence[Seed]) -> tuple[dict[str, list[Seed]], list[str]]:
    """The runs in groups of one environment each, and notes. The newest group keeps the name, others have a number.

    Runs that fit into several groups, such as those of an arm whose code did not change, are in the newest of these.
    """
    kinds: dict[str, list[Seed]] = {}
    for seed in sorted(seeds, key=lambda one: str(one.provenance.get("time", "")), reverse=True):
        kinds.setdefault(str((_arm(seed), seed.info.environment, seed.info.cells, _knobs(seed))), []).append(seed)
    groups: list[list[list[Seed]]] = []
    for kind in kinds.values():
        fitting = (group for group in groups if not any(_difference(member[0], kind[0]) for member in group))
        group = next(fitting, None)
        if group is None:
            groups.append([kind])
        else:
            group.append(kind)
    groups.reverse()
    labels = [f"{name} @{number}" for number in range(1, len(groups))] + [name]
    members = [[seed for kind in group for seed in kind] for group in groups]
    names = [names_text([seed.run for seed in some]) for some in members]
    notes = [
        f"runs with different code are not pooled: '{label}' ({old}) and '{name}' ({names[-1]}), in which this "
        f"changed: {_changes(group, groups[-1])}"
        for label, old, group in zip(labels[:-1], names[:-1], groups[:-1], strict=True)
    ]
    for seed in seeds:
        for what, (_, own) in CODE.items():
            known: dict[str, str] = getattr(seed.info, what) or {}
            if mixed := [f"{part} {versions}" for part, versions in known.items() if THEN in versions]:
                notes.append(f"{seed.run}: {own} changed while it trained (--force): {'; '.join(mixed)}")
    silent = [seed.run for seed in seeds if not seed.info.environment]
    if 0 < len(silent) < len(seeds):
        one = f"{counted(len(silent), 'run')} of '{name}' ({names_text(silent)})"
        notes.append(f"{one} do not say of which version of the environment they are: pooled with the others")
    return dict(zip(labels, members, strict=True)), notes


def _arm(seed: Seed) -> str:
    return seed.info.arm.removesuffix("~")


def _knobs(seed: Seed) -> dict[str, str]:
    known: dict[str, Any] = seed.config.get("env", {})
    return {key: str(value) for key, value in known.items() if key not in NOT_THE_WORLD}


def _difference(one: Seed, other: Seed) -> str:
    """What differs between the environments of two runs; '' if nothing does. Arms may differ in knobs on purpose."""
    knobs = apart(_knobs(one), _knobs(other), shared=True) if _arm(one) == _arm(other) else {}
    return changes_text(code_apart(one.info, other.info) | knobs)


def _changes(before: list[list[Seed]], after: list[list[Seed]]) -> str:
    found = (_difference(one[0], other[0]) for one in before for other in after)
    return next((change for change in found if change), "")
