"""The answer in words, table by table: what both the page and the appendix are filled with."""

from typing import Any

from memexp.analysis.formatting import counted, dollars, duration, interval, number, share, short_count, title_of
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.timing import dollars_for
from memexp.config import count_name

LEARNING_STATES = {"too_early": "too early to tell", "not_learned": "not learned"}


def section(environment: Environment, judged: dict[str, Any]) -> dict[str, Any]:
    """Everything that is said about one environment, pictures aside."""
    memory, arms = judged["memory"], judged["arms"].values()
    return {
        "name": environment.name,
        "title": title_of(environment.name, judged),
        "memory": memory,
        "effect": number(memory["effect"]) if memory["effect"] is not None else "",
        "effect_ci": interval(memory["ci"]) if memory["effect"] is not None else "",
        "learned": f"{_count(arms, 'learning', 'learned')} of {counted(len(arms), 'arm')}",
        "converged": f"{_count(arms, 'convergence', 'converged')} of {counted(len(arms), 'arm')}",
        "fastest": _fastest(judged),
        "arms": [_arm(arm, judged) for arm in environment.arms.values()],
        "costs": [_cost(arm, judged["sequential"]["per_arm"][arm.name]) for arm in environment.arms.values()],
        "spent": spent_words(list(environment.arms.values())),
        "needed": _needed(judged),
        "budget": short_count(environment.budget),
        "judged": judged,
        "more": _more(memory),
        "knobs": _knobs(judged["knobs"]),
    }


def _count(arms: Any, question: str, verdict: str) -> int:
    return sum(arm[question]["verdict"] == verdict for arm in arms)


def _fastest(judged: dict[str, Any]) -> str:
    """'S~, 12k steps' for the arm with the lowest median time to solve."""
    medians = {name: arm["time"]["agent_steps"]["median"] for name, arm in judged["arms"].items()}
    known = {name: steps for name, steps in medians.items() if steps is not None}
    if not known:
        return "no arm in half of its seeds"
    first = min(known, key=lambda name: known[name])
    took = judged["arms"][first]["time"]
    price = f", {dollars(took['dollars'])}" if took["dollars"] is not None else ""
    return (
        f"{first}: {short_count(known[first])} steps"
        + (f", {duration(took['hours'])}" if took["hours"] else "")
        + price
    )


def _arm(arm: Arm, judged: dict[str, Any]) -> dict[str, Any]:
    """One line of the verdict table."""
    row = judged["arms"][arm.name]
    effect = judged["memory"]["per_arm"].get(arm.name) or {}
    final, settled, learning = row["final"], row["convergence"], row["learning"]
    return {
        "name": arm.name,
        "twin": arm.info.memory == "off",
        "seeds": counted(row["seeds"], "seed") + (f", {len(arm.partial)} unfinished" if arm.partial else ""),
        "final": "–" if final["iqm"] is None else f"{final['iqm']:.3g}",
        "final_ci": "" if final["ci"][0] is None else f"[{final['ci'][0]:.3g}, {final['ci'][1]:.3g}]",
        "normalized": "" if final["normalized"] is None else f"{final['normalized']:.0%} of the way",
        "learning": learning,
        "learned": LEARNING_STATES.get(learning.get("state", learning["verdict"]), learning["verdict"]),
        "convergence": settled,
        "settled": f"at {short_count(settled['at_agent_steps'])}" if settled["at_agent_steps"] is not None else "",
        **_effect(effect),
        **_time(row),
        "consistent": {True: "yes", False: "NO", None: "not measured"}[row["consistent"]],
        "gap": "" if row["max_logprob_gap"] is None else f"{row['max_logprob_gap']:.1e}",
        "forecast": _forecast(settled),
    }


def _effect(entry: dict[str, Any]) -> dict[str, str]:
    known = entry.get("effect") is not None
    return {
        "effect": number(entry["effect"]) if known else "",
        "effect_ci": interval(entry["ci"]) if known else "",
        "effect_p": f"Holm p {entry['p_holm']:.2g}" if entry.get("p_holm") is not None else "",
        "effect_verdict": (entry.get("verdict") or "").replace("_", " "),
        "excluded": entry.get("excluded") or "",
    }


def _time(row: dict[str, Any]) -> dict[str, str]:
    took, steps = row["time"], row["time"]["agent_steps"]
    parts = [f"{row['seeds'] - steps['censored']} of {counted(row['seeds'], 'seed')}"] if row["seeds"] else []
    parts += [duration(took["hours"])] if took["hours"] is not None else []
    parts += [dollars(took["dollars"])] if took["dollars"] is not None else []
    median = steps["median"]
    return {"steps": "not reached" if median is None else f"{short_count(median)} steps", "reached": " · ".join(parts)}


def _forecast(settled: dict[str, Any]) -> str:
    forecast = settled["forecast"]
    if not forecast:
        return settled["forecast_reason"] or ""
    gain = f"{number(forecast['gain'])} {interval(forecast['ci'])}"
    return f"{forecast['family']} curve: {gain} of the scale by {short_count(forecast['until'])} steps"


def _more(memory: dict[str, Any]) -> list[str]:
    """Sentences on what the effect is compared with, where it is known."""
    found = []
    ratio = memory["oracle_ratio"] if memory["verdict"] != "undecided" else None
    if ratio and ratio["estimate"] is not None:
        found.append(
            f"Memory brings {ratio['estimate']:.0%}{_percent(ratio['ci'])} of what full sight would bring beyond "
            "a policy without memory."
        )
    return found + [f"Arms {', '.join(one['arms'])}: {one['reason']}." for one in memory["shortest"]]


def _percent(ends: list[float | None]) -> str:
    """' (95 % interval 59% to 67%)'; nothing where it is not known."""
    low, high = ends
    return "" if low is None or high is None else f" (95 % interval {low:.0%} to {high:.0%})"


def _knobs(knobs: list[dict[str, Any]]) -> dict[str, Any]:
    """What to turn: the measured settings as one table of funnels, the others as words."""
    measured = [knob for knob in knobs if "words" in knob]
    names = list(measured[0]["before"]) if measured else []
    funnels = [("as it was measured", "", measured[0]["before"])] if measured else []
    funnels += [(knob["words"], knob["why"], knob["predicted"]) for knob in measured]
    return {
        "ends": measured[0]["ends"] if measured else "",
        "milestones": names,
        "rows": [
            {"words": words, "why": why, "shares": [share(funnel[name]) if name in funnel else "–" for name in names]}
            for words, why, funnel in funnels
        ],
        "others": [(_named(knob), knob["because"]) for knob in knobs if "words" not in knob],
    }


def _named(knob: dict[str, Any]) -> str:
    """'steps=2m'; the knob alone where no value is known."""
    if knob["value"] is None:
        return knob["knob"]
    return f"{knob['knob']}={count_name(knob['value']) if knob['knob'] == 'steps' else knob['value']}"


# Cost.


def spent_hours(arm: Arm) -> float:
    """Machine hours of all runs of the arm."""
    return sum(seed.reached / seed.rate / 3600 for seed in (*arm.seeds, *arm.partial) if seed.rate)


def _cost(arm: Arm, action: dict[str, Any]) -> dict[str, str]:
    """One line of the cost table: what the arm's runs took, and what those that have not finished still take."""
    seeds = [*arm.seeds, *arm.partial]
    rates = sorted(seed.rate for seed in seeds if seed.rate)
    hours, left = spent_hours(arm), _hours_left(arm)
    return {
        "name": arm.name,
        "runs": str(len(seeds)),
        "agent_steps": short_count(sum(seed.reached for seed in seeds)),
        "rate": f"{short_count(rates[len(rates) // 2])}/s" if rates else "–",
        "spent": duration(hours) if rates else "–",
        "spent_dollars": dollars(dollars_for(arm, hours)),
        "left": duration(left) if left else "–",
        "left_dollars": dollars(dollars_for(arm, left)) if left else "–",
        "action": _next_action(action),
        "because": action["because"],
    }


def _hours_left(arm: Arm) -> float | None:
    """Hours that unfinished runs still take, one after the other, at the arm's rate."""
    rates = sorted(seed.rate for seed in (*arm.seeds, *arm.partial) if seed.rate)
    steps = sum(max(0, arm.budget - seed.reached) for seed in arm.partial)
    return steps / rates[len(rates) // 2] / 3600 if rates and steps else None


def spent_words(arms: list[Arm]) -> str:
    """'3.2 h, $4.10' over all runs; 'at least $4.10' where the price of some is not known."""
    hours = {arm.name: spent_hours(arm) for arm in arms}
    prices = [price for arm in arms if (price := dollars_for(arm, hours[arm.name])) is not None]
    least = "at least " if len(prices) < sum(spent > 0 for spent in hours.values()) else ""
    return duration(sum(hours.values())) + (f", {least}{dollars(sum(prices))}" if prices else "")


def _needed(judged: dict[str, Any]) -> str:
    """What is still needed until the question is answered, or why nothing is."""
    needed = judged["until_answered"]
    parts = [counted(int(needed["runs"]), "run")] if needed["runs"] else []
    parts += [f"{short_count(needed['agent_steps'])} agent steps"] if needed["agent_steps"] else []
    parts += [duration(needed["hours"])] if needed["hours"] else []
    parts += [dollars(needed["dollars"])] if needed["dollars"] else []
    return ", ".join(parts) or needed["reason"]


def _next_action(action: dict[str, Any]) -> str:
    """'run 2 seeds: 5, 6', 'stop', 'wait'."""
    seeds = action["seeds"]
    return f"run {counted(len(seeds), 'seed')}: {', '.join(map(str, seeds))}" if seeds else action["action"]
