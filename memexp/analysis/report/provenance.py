"""Where the runs came from, and in what they differ."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from memexp.analysis.formatting import names_text
from memexp.analysis.seeds import Seed
from memexp.formatting import counted, short_count

# Packages whose versions the page shows; provenance.json of each run has all.
PACKAGES = ("torch", "numpy", "numba", "triton", "memexp")


class Row(NamedTuple):
    name: str
    value: str
    differs: bool = False  # Whether the runs have different values


def provenance(seeds: Sequence[Seed]) -> list[Row]:
    """One row a fact about the runs; where runs differ, each value with its runs."""
    records = [seed.provenance for seed in seeds]
    facts = {
        "commit": [_commit(one) for one in records],
        "project": [_commit(one.get("project")) for one in records],
        "hardware": [seed.info.hardware for seed in seeds],
        "device": [record.get("device") for record in records],
        "host": [record.get("host") for record in records],
        "platform": [record.get("platform") for record in records],
        "Python": [record.get("python") for record in records],
        "precision": [seed.precision for seed in seeds],
    }
    packages: list[dict[str, str]] = [record.get("packages") or {} for record in records]
    known = [one for one in packages if one]
    versions = {name: {one.get(name) for one in known} for name in sorted({name for one in known for name in one})}
    facts |= _splits([name for name, found in versions.items() if len(found) > 1], packages)
    statuses = Counter(seed.status for seed in seeds)
    recipes = dict.fromkeys(seed.info.recipe for seed in seeds if seed.info.recipe)
    rows = [
        Row("runs", f"{len(seeds)} ({', '.join(f'{n} {status}' for status, n in statuses.items())})"),
        Row("agent steps", short_count(sum(seed.reached for seed in seeds))),
        Row("recipes", ", ".join(recipes)),
        *(_row(name, values, seeds) for name, values in facts.items()),
        Row("packages", ", ".join(f"{name} {known[0][name]}" for name in PACKAGES if len(versions.get(name, ())) == 1)),
    ]
    return [row for row in rows if row.value]


def _commit(record: Any) -> str | None:
    """'my-mazes 0123456789 with uncommitted changes'; None if no commit is known."""
    if not isinstance(record, dict):
        return None
    record = cast("dict[str, Any]", record)
    if not isinstance(commit := record.get("commit"), str):
        return None
    dirty = " with uncommitted changes" if record.get("dirty") else ""
    return f"{record.get('name', '')} {commit[:10]}{dirty}".strip()


def _row(name: str, values: Sequence[str | None], seeds: Sequence[Seed]) -> Row:
    """The value that all runs share, or each value with its runs, the most frequent first."""
    runs: dict[str, list[str]] = {}
    for value, seed in zip(values, seeds, strict=True):
        if value:
            runs.setdefault(str(value), []).append(seed.run)
    if len(runs) <= 1:
        return Row(name, "".join(runs))
    first, *rest = sorted(runs.items(), key=lambda item: -len(item[1]))
    parts = [f"{first[0]} ({counted(len(first[1]), 'run')})"]
    parts += [f"{value} ({counted(len(names), 'run')}: {names_text(names)})" for value, names in rest]
    return Row(name, "; ".join(parts), differs=True)


def _splits(unequal: Sequence[str], packages: Sequence[dict[str, str]]) -> dict[str, list[str | None]]:
    """Packages in which runs differ: name -> value of each run. Packages that split the runs alike are one fact."""
    alike: dict[tuple[str | None, ...], list[str]] = {}
    for name in unequal:
        values = [one.get(name, "absent") if one else None for one in packages]
        known = list(dict.fromkeys(values))
        alike.setdefault(tuple(str(known.index(value)) for value in values), []).append(name)
    facts: dict[str, list[str | None]] = {}
    for names in alike.values():
        label = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} other packages"
        facts[label] = [
            ", ".join(f"{name} {one.get(name, 'absent')}" for name in names) if one else None for one in packages
        ]
    return facts
