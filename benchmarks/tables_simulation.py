"""Tables of the simulated cluster, from committed results."""

from __future__ import annotations

from tables import load, table


def scenarios(group: str) -> str:
    """A group of scenarios, a row each."""
    header = ["", "seconds", "p50 / p99 of a problem", "tokens a second", "lost"]
    header += ["sent again", "wasted", "cached", "most to mean", "client busy"]
    rows = []
    for row in load("simulation")["groups"][group]:
        middle, late = row["problem_s"]
        cells = [row["name"], f"{row['makespan_s']:.1f}", f"{middle:.1f} / {late:.1f}"]
        cells += [f"{row['tokens_per_s']:,.0f}", f"{row['lost']}", f"{row['recovered']}"]
        cells += [f"{abs(row['wasted']):.0%}", f"{row['cached']:.0%}"]
        rows.append([*cells, f"{row['uneven']:.2f}", f"{row['driver']:.0%}"])
    return table(header, rows)


def calibration() -> str:
    """How a real engine's step grows with its lanes, and how well a batch is predicted."""
    found = load("simulation")["calibration"]
    curve = found["curve"]
    fitted = {n: 1e3 * (curve["step_s"] + int(n) * curve["lane_s"]) for n in found["step_ms"]}
    rows = [
        ["measured", *(f"{ms:.2f}" for ms in found["step_ms"].values())],
        ["the line", *(f"{ms:.2f}" for ms in fitted.values())],
    ]
    told = table(["ms a step, by lanes", *found["step_ms"]], rows)
    return (
        f"{told}\n{found['answers']} answers of different lengths, {curve['lanes']} at once: the "
        f"engine took {found['real_s']:.2f} s of processor time, and the model says "
        f"{found['predicted_s']:.2f} s ({100 * found['error']:+.0f} %).\n"
    )
