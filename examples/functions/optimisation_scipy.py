"""Optimisation by SciPy, which gives the pool each generation of a differential evolution."""

import numpy as np
from scipy.optimize import differential_evolution

from pilotmtc import PilotExecutor


def energy(x: np.ndarray) -> float:
    """Return Ackley's function: a hole among many hollows, 0 at the origin."""
    waves = np.exp(np.mean(np.cos(2 * np.pi * x)))
    return float(20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - waves)


if __name__ == "__main__":
    with PilotExecutor() as pool:
        result = differential_evolution(
            energy, [(-30, 30)] * 2, workers=pool.map, updating="deferred", rng=1, maxiter=60, polish=False
        )
    print(f"{result.nfev} calls, at {result.x.round(4)}: found {result.fun:.4f}, known 0")
