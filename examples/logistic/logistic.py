"""Lyapunov exponents of the logistic map, x -> r x (1 - x), in stages that each leave a file in ``out``.

::

    logistic.py starts COUNT        draw COUNT starting points
    logistic.py orbit R MEMBER      follow one of them
    logistic.py mean R              average over all members of one r
    logistic.py report              compare with what is known
"""

import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

OUT = Path("out")
STEPS = 20_000
# The fixed point has |2 - r|, the cycle of two |4 + 2r - r^2| under the root, and r = 4 doubles angles.
KNOWN = {"2.5": math.log(0.5), "3.2": math.log(0.16) / 2, "4": math.log(2)}


def exponent(r: float, x: float, steps: int = STEPS) -> float:
    """Return the mean of log |f'(x)| along the orbit of `x`."""
    for _ in range(1000):
        x = r * x * (1 - x)
    total = 0.0
    for _ in range(steps):
        total += math.log(abs(r * (1 - 2 * x)) or 1e-300)
        x = r * x * (1 - x)
    return total / steps


def starts(count: str) -> None:
    OUT.mkdir(exist_ok=True)
    draw = random.Random(1)
    write("starts.json", [draw.uniform(0.1, 0.9) for _ in range(int(count))])


def orbit(r: str, member: str) -> None:
    start = json.loads((OUT / "starts.json").read_text())[int(member)]
    write(f"orbit-{r}-{member}.json", exponent(float(r), start))


def mean(r: str) -> None:
    found = [json.loads(path.read_text()) for path in sorted(OUT.glob(f"orbit-{r}-*.json"))]
    write(f"mean-{r}.json", {"members": len(found), "exponent": math.fsum(found) / len(found)})


def report() -> None:
    lines = ["r,members,exponent,known"]
    for r, known in KNOWN.items():
        found = json.loads((OUT / f"mean-{r}.json").read_text())
        lines.append(f"{r},{found['members']},{found['exponent']:.4f},{known:.4f}")
    (OUT / "report.csv").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def write(name: str, content: object) -> None:
    """Write the whole file or none of it: a task that is killed must leave nothing half done for the next stage."""
    part = OUT / f"{name}.part"
    part.write_text(json.dumps(content))
    part.replace(OUT / name)


STAGES: dict[str, Callable[..., None]] = {"starts": starts, "orbit": orbit, "mean": mean, "report": report}

if __name__ == "__main__":
    STAGES[sys.argv[1]](*sys.argv[2:])
