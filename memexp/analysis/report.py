"""The answer as one self-contained page for people: sentences first, then evidence, then provenance."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from memexp.analysis.figures import learning_svg, number, short_count, title_of, twins_svg
from memexp.analysis.load import Arm, Environment, Seed, load
from memexp.analysis.timing import dollars_for
from memexp.runs import MAX_GAP, Run
from memexp.runs.directory import write_atomically

PACKAGES = ("torch", "numpy", "numba", "triton", "memexp")
"""Versions that the page shows; provenance.json of each run has all."""
SYMBOLS = {
    "required": "●",
    "helps": "◐",
    "not_needed": "○",
    "learned": "✓",
    "converged": "✓",
    "not_learned": "✗",
    "collapsed": "✗",
    "improving": "↗",
    "undecided": "?",
}


def write_report(runs: Sequence[Run], answer: dict[str, Any], out: Path) -> Path:
    """Write the page to `out` (replaced atomically) and return its path. `answer` is answer(runs, ...)'s."""
    environments, _ = load(runs, answer["matrix"])
    seeds = [seed for environment in environments.values() for seed in environment.seeds]
    sections = [_section(environment, answer["environments"][name]) for name, environment in environments.items()]
    page = _template().render(
        matrix=answer["matrix"],
        notes=answer.get("notes", []),
        sections=sections,
        provenance=provenance(seeds),
        command=next((shlex.join(map(str, s.provenance["argv"])) for s in seeds if s.provenance.get("argv")), None),
        commit=next((s.provenance["commit"] for s in seeds if s.provenance.get("commit")), None),
        limits=MAX_GAP,
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )
    out = Path(out)
    write_atomically(out, page.encode())
    return out


def provenance(seeds: Sequence[Seed]) -> list[tuple[str, str]]:
    """What the runs ran on and took, as (name, value) rows; values that differ between runs stand side by side."""
    records = [seed.provenance for seed in seeds]
    hours = [seed.reached / seed.rate / 3600 if seed.rate else 0.0 for seed in seeds]
    prices = [seed.info.price_per_hour for seed in seeds]
    dollars = sum(h * p for h, p in zip(hours, prices, strict=True) if p is not None)
    commits = [
        f"{r['commit'][:10]}{' + uncommitted changes' if r.get('dirty') else ''}" for r in records if r.get("commit")
    ]
    packages = [
        f"{name} {r['packages'][name]}" for r in records for name in PACKAGES if name in (r.get("packages") or {})
    ]
    rows = [
        ("runs", f"{len(seeds)} ({_counted([seed.status for seed in seeds])})"),
        ("agent steps", short_count(sum(seed.reached for seed in seeds))),
        ("machine time", duration(sum(hours)) + (f", ${dollars:.2f}" if any(p is not None for p in prices) else "")),
        ("hardware", _distinct([seed.info.hardware for seed in seeds])),
        ("device", _distinct([record.get("device") for record in records])),
        ("host", _distinct([record.get("host") for record in records])),
        ("platform", _distinct([record.get("platform") for record in records])),
        ("commit", _distinct(commits)),
        ("recipe", _distinct([seed.info.recipe for seed in seeds])),
        ("Python", _distinct([record.get("python") for record in records])),
        ("packages", _distinct(packages)),
        ("precision", _distinct([seed.precision for seed in seeds])),
    ]
    return [(name, value) for name, value in rows if value]


def duration(hours: float | None) -> str:
    """0.01 -> '36 s', 0.2 -> '12 min', 3.4 -> '3.4 h'."""
    if hours is None:
        return "–"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.3g} h"


def _section(environment: Environment, judged: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": environment.name,
        "title": title_of(environment.name, judged),
        "memory": judged["memory"],
        "symbol": SYMBOLS[judged["memory"]["verdict"]],
        "arms": [_row(arm, judged) for arm in environment.arms.values()],
        "learning_svg": learning_svg(environment, judged),
        "learning_alt": _learning_alt(environment, judged),
        "twins_svg": twins_svg(environment, judged),
        "twins_alt": _twins_alt(judged),
        "judged": judged,
        "budget": short_count(environment.budget),
        "solved": judged["solved_return"],
    }


def _row(arm: Arm, judged: dict[str, Any]) -> dict[str, Any]:
    """One line of the verdict table, as words."""
    row = judged["arms"][arm.name]
    effect = judged["memory"]["per_arm"].get(arm.name)
    final, took, settled = row["final"], row["time"], row["convergence"]
    steps, price = took["agent_steps"], took["dollars"]
    reached = row["seeds"] - steps["censored"]
    known = effect is not None and effect["effect"] is not None
    spent = sum(seed.reached / seed.rate / 3600 for seed in (*arm.seeds, *arm.partial) if seed.rate)
    return {
        "name": arm.name,
        "twin": arm.info.memory == "off",
        "seeds": row["seeds"],
        "unfinished": len(arm.partial),
        "final": "–" if final["iqm"] is None else f"{final['iqm']:.3g}",
        "final_ci": "" if final["ci"][0] is None else f"[{final['ci'][0]:.3g}, {final['ci'][1]:.3g}]",
        "normalized": "" if final["normalized"] is None else f"{final['normalized']:.0%} of the way",
        "learning": row["learning"],
        "convergence": settled,
        "settled": f"at {short_count(settled['at_agent_steps'])}" if settled["at_agent_steps"] is not None else "",
        "effect": number(effect["effect"]) if effect is not None and known else "",
        "effect_ci": f"[{number(effect['ci'][0])}, {number(effect['ci'][1])}]" if effect is not None and known else "",
        "effect_p": f"Holm p {effect['p_holm']:.2g}" if effect is not None and effect["p_holm"] is not None else "",
        "excluded": (effect or {}).get("excluded"),
        "steps": f"{short_count(steps['median'])} steps" if steps["median"] is not None else "not reached",
        "reached": f"{reached} of {row['seeds']} seeds" if row["seeds"] else "",
        "took": ""
        if took["hours"] is None
        else duration(took["hours"]) + (f", ${price:.2f}" if price is not None else ""),
        "spent": duration(spent),
        "spent_dollars": dollars_for(arm, spent),
        "consistent": row["consistent"],
        "gap": "not measured" if row["max_logprob_gap"] is None else f"{row['max_logprob_gap']:.1e}",
    }


def _learning_alt(environment: Environment, judged: dict[str, Any]) -> str:
    ends = [
        f"{name} {arm['final']['iqm']:.3g}" for name, arm in judged["arms"].items() if arm["final"]["iqm"] is not None
    ]
    levels = [
        f"{label} {value:.3g}"
        for label, value in (("random policy", judged["random_return"]), ("ceiling", judged["ceiling_return"]))
        if value is not None
    ]
    return f"Learning curves in {environment.name}; final return: {', '.join([*ends, *levels]) or 'none yet'}."


def _twins_alt(judged: dict[str, Any]) -> str:
    effects = [
        f"{name} {number(entry['effect'])}, 95 % interval {number(entry['ci'][0])} to {number(entry['ci'][1])}"
        for name, entry in judged["memory"]["per_arm"].items()
        if entry["effect"] is not None
    ]
    return (
        f"Final returns of every seed, with and without memory. Effect of memory: {'; '.join(effects) or 'not known'}."
    )


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["symbols"] = SYMBOLS
    return environment.get_template("report.html.j2")


def _distinct(values: Sequence[str | None]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
