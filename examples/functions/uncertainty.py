"""Uncertainty quantification: which inputs of a model make its output uncertain? Sobol's indices of Ishigami's model.

Each index is a share of the output's variance: what an input explains alone, and what it takes part in.
"""

import numpy as np
from scipy.stats import qmc

from pilotmtc import PilotExecutor

SAMPLES = 2048
ALONE, TOTAL = (0.3139, 0.4424, 0.0), (0.5576, 0.4424, 0.2437)  # known for a = 7, b = 0.1


def model(x: np.ndarray) -> float:
    """Run the model. Yours takes minutes."""
    return float(np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]))


if __name__ == "__main__":
    points = qmc.Sobol(6, rng=1).random(SAMPLES)  # more even than random ones
    one, other = np.split(np.pi * (2 * points - 1), 2, axis=1)
    mixed = [one.copy() for _ in range(3)]
    for place, inputs in enumerate(mixed):
        inputs[:, place] = other[:, place]  # all as in `one`, but for one input

    with PilotExecutor() as pool:  # many short calls: a task is a hundred of them
        outputs = np.fromiter(pool.map(model, np.concatenate([one, other, *mixed]), chunksize=100), float)

    of_one, of_other, *of_mixed = outputs.reshape(5, SAMPLES)
    variance = np.var([of_one, of_other])
    for place, of_inputs in enumerate(of_mixed):
        alone = 1 - np.mean((of_other - of_inputs) ** 2) / 2 / variance  # Jansen's estimators
        total = np.mean((of_one - of_inputs) ** 2) / 2 / variance
        print(f"input {place + 1} alone: found {alone:.4f}, known {ALONE[place]}")
        print(f"input {place + 1} in all: found {total:.4f}, known {TOTAL[place]}")
