"""Results as JSON lines and as tables."""

from __future__ import annotations

import statistics

from .race import Result
from .workloads import Goal, Workload

MINUTES = 10                          # of training that the goal of quality allows


def lines(workload: Workload, results: list[Result]) -> list[dict[str, object]]:
    """One line a competitor. Ratios are of medians, above 1 where this one is faster, also where the value is seconds.

    `ratio_to_best_peer`: the fastest peer in fp32; for a row in bf16 the fastest peer of either precision.
    """
    middle = {one.competitor.name: statistics.median(one.values) for one in results if one.values}
    peers = [one.competitor for one in results if one.competitor.kind == "peer" and one.values]

    def ratio(result: Result, other: str | None) -> float | None:
        mine = middle.get(result.competitor.name)
        if mine is None or other is None or other not in middle:
            return None
        return round(middle[other] / mine if result.competitor.inverse else mine / middle[other], 4)

    def best(result: Result) -> str | None:
        fair = [one.name for one in peers if half(result.competitor.name) or not half(one.name)]
        order = min if result.competitor.inverse else max
        return order(fair, key=middle.get) if fair else None
    return [line(workload, one, middle.get(one.competitor.name), ratio(one, best(one)), ratio(one, limit_of(one)),
                 {peer.name: ratio(one, peer.name) for peer in peers} if one.competitor.kind == "ours" else {})
            for one in results]


def limit_of(result: Result) -> str:
    """The limit a competitor is held against: "limit", or for "rlseq k=4" the one of the same size, "limit k=4"."""
    return " ".join(["limit", *result.competitor.name.split(" ")[1:]])


def half(name: str) -> bool:
    """Whether a competitor computes in bf16."""
    return name.endswith("-bf16")


def line(workload: Workload, result: Result, value: float | None, to_peer: float | None, to_limit: float | None,
         ratios: dict[str, float | None]) -> dict[str, object]:
    """What is said of one competitor; `missing` or `failed` says why there is no value."""
    found = {"workload": workload.name, "name": result.competitor.name, "value": rounded(value), "unit": workload.unit,
             "ratio_to_best_peer": to_peer, "ratio_to_limit": to_limit, "repetitions": len(result.values)}
    if result.values:
        found |= {"min": rounded(min(result.values)), "max": rounded(max(result.values))}
    if result.values and not result.competitor.inverse:                        # else the work is done by other processes
        found |= {"foreign_cpu": round(statistics.median(result.foreign), 3), "start_mb": result.start_mb,
                  "peak_mb": result.peak_mb}
    return found | ({"ratios": ratios} if ratios else {}) | result.facts | result.problem


def rounded(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def shown(value: object) -> str:
    """A number for a table: 12,345 or 0.541; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def table(workload: Workload, found: list[dict[str, object]], full: bool) -> str:
    """The lines of one workload as a markdown table; below it its goals, if this is a full run, and who was left out."""
    head = [workload.name, f"{workload.unit} (min - max)", "x best peer", "of limit", "peak MB", "n"]
    rows = [head, ["---"] * len(head)]
    for one in found:
        if "left_out" in one:
            continue
        if one["value"] is None:
            what = next((f"{key}: {one[key]}" for key in ("missing", "failed") if key in one), "no value")
            rows.append([str(one["name"]), what, "", "", "", ""])
            continue
        spread = f"{shown(one['value'])} ({shown(one['min'])} - {shown(one['max'])})"
        rows.append([str(one["name"]), spread, *(shown(one.get(key)) for key in (
            "ratio_to_best_peer", "ratio_to_limit", "peak_mb", "repetitions"))])
    body = "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows)
    out = [str(one["name"]) for one in found if "left_out" in one]
    notes = (goals(workload, found) if full else []) + ([f"* left out: {', '.join(out)}"] if out else [])
    return f"{workload.title}\n\n{body}\n" + "".join(f"\n{text}" for text in notes) + "\n"


def goals(workload: Workload, found: list[dict[str, object]]) -> list[str]:
    """Each goal of a workload beside what was measured."""
    known = {str(one["name"]): one for one in found if one["value"] is not None}
    return [judged(goal, known) for goal in workload.goals]


def judged(goal: Goal, known: dict[str, dict[str, object]]) -> str:
    """One goal in one line."""
    ours, other = known.get(goal.row), known.get(goal.other)
    text = {"speed": f"{goal.row} / {goal.other}, at least {goal.wanted:g}",
            "memory": f"peak memory of {goal.row} / {goal.other}, at most {goal.wanted:g}",
            "seconds": f"{goal.row}, at most {goal.wanted:g} s",
            "quality": f"{goal.row}, at least {goal.wanted:g} % within {MINUTES} minutes of training"}[goal.what]
    if ours is None or (other is None and goal.other):
        return f"* {text}: not measured"
    if goal.what == "quality":
        good = ours["value"] >= goal.wanted and ours["seconds"] <= 60 * MINUTES
        return f"* {text}: {ours['value']:.1f} % in {ours['seconds']:.0f} s, {'reached' if good else 'missed'}"
    if goal.what == "seconds":
        reached, good = ours["value"], ours["value"] <= goal.wanted
    elif goal.what == "memory":
        reached = ours["peak_mb"] / other["peak_mb"]
        good = reached <= goal.wanted
    else:
        reached = ours["value"] / other["value"]
        good = reached >= goal.wanted
    return f"* {text}: {reached:.2f}, {'reached' if good else 'missed'}"
