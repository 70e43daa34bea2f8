"""Optimisation in a loop, ask and tell: CMA-ES, a cloud of points that learns the shape of the valley it is in.

The workers stay from round to round, so that a round costs no more than its calls.
"""

import numpy as np

from pilotmtc import PilotExecutor

SIZE, CALLS, ROUNDS = 3, 16, 75


def misfit(x: np.ndarray) -> float:
    """Return Rosenbrock's function, a bent valley: 0 where all are 1. Yours runs a simulation."""
    return float(np.sum((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2))


class Search:
    """CMA-ES, after Hansen's tutorial (arXiv:1604.00772)."""

    def __init__(self, start: np.ndarray, width: float) -> None:
        self.random = np.random.default_rng(1)
        self.mean, self.width, size = start, width, len(start)
        self.covariance, self.path, self.width_path = np.eye(size), np.zeros(size), np.zeros(size)
        self.weights = np.log(CALLS / 2 + 0.5) - np.log(np.arange(1, CALLS // 2 + 1))
        self.weights /= self.weights.sum()
        self.mass = 1 / np.sum(self.weights**2)

    def ask(self) -> np.ndarray:
        """Return points to try."""
        return self.random.multivariate_normal(self.mean, self.width**2 * self.covariance, CALLS)

    def tell(self, points: np.ndarray, values: list[float]) -> None:
        """Move to the best half, and stretch towards it."""
        size, mass = len(self.mean), self.mass
        steps = (points[np.argsort(values)[: len(self.weights)]] - self.mean) / self.width
        step = self.weights @ steps
        self.mean = self.mean + self.width * step
        slow, fast = 4 / (size + 4), (mass + 2) / (size + mass + 5)
        eigen, axes = np.linalg.eigh(self.covariance)
        whitened = axes @ (axes.T @ step / np.sqrt(eigen))
        self.width_path = (1 - fast) * self.width_path + np.sqrt(fast * (2 - fast) * mass) * whitened
        self.path = (1 - slow) * self.path + np.sqrt(slow * (2 - slow) * mass) * step
        one, many = 2 / ((size + 1.3) ** 2 + mass), 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass)
        self.covariance = (1 - one - many) * self.covariance + one * np.outer(self.path, self.path)
        self.covariance += many * (steps.T * self.weights) @ steps
        usual = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        self.width *= np.exp(fast / (1 + fast) * (np.linalg.norm(self.width_path) / usual - 1))


if __name__ == "__main__":
    search = Search(np.full(SIZE, -1.0), 0.5)
    with PilotExecutor() as pool:
        for number in range(1, ROUNDS + 1):
            points = search.ask()
            values = list(pool.map(misfit, points))
            search.tell(points, values)
            if number % 15 == 0:
                print(f"after {CALLS * number} calls: {min(values):.1e}")
    for name, found in zip("xyz", search.mean, strict=True):
        print(f"{name}: found {found:.4f}, known 1")
