"""Levenberg-Marquardt on many small problems at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.models.smplify.objective import Objective, State


def minimise(
    objective: Objective,
    state: State,
    iterations: int,
    *,
    tolerance: float = 1e-5,
) -> tuple[State, FloatArray, NDArray[np.bool_]]:
    """(best state, cost [M], converged [M]) after at most `iterations` steps from `state`.

    Every problem has its own damping and stops on its own: a result does not depend on its neighbours.
    Converged: an accepted step lowered the cost by less than `tolerance` of itself plus `tolerance`, or no
    step of any size lowers it.
    """
    count = len(state.values)
    cost = np.empty(count)
    damping = np.full(count, 1e-2)
    done = np.zeros(count, bool)
    cost, gradient, matrix = objective.evaluate(state)
    for _ in range(iterations):
        active = np.flatnonzero(~done)
        if len(active) == 0:
            break
        scaled = matrix[active].copy()
        diagonal = np.einsum("mii->mi", scaled)
        diagonal += damping[active, None] * (diagonal + 1e-6)
        step = -np.asarray(np.linalg.solve(scaled, gradient[active][..., None])[..., 0], np.float64)
        # A step of more than a radian or a factor e in depth leaves the region where the model holds.
        step *= np.minimum(1.0, 0.8 / np.maximum(np.abs(step[:, :15]).max(axis=1), 1e-12))[:, None]
        trial = state.take(active).moved(step)
        part = objective.take(active)
        new_cost, new_gradient, new_matrix = part.evaluate(trial)
        better = np.isfinite(new_cost) & (new_cost <= cost[active])
        gain = cost[active] - new_cost
        rows = active[better]
        state = state.updated(rows, trial.take(np.flatnonzero(better)))
        small = better & (gain < tolerance * (1.0 + cost[active]))
        cost[rows], gradient[rows], matrix[rows] = (
            new_cost[better],
            new_gradient[better],
            new_matrix[better],
        )
        damping[active] = np.clip(np.where(better, damping[active] * 0.3, damping[active] * 6.0), 1e-7, 1e9)
        done[active] = small | (damping[active] > 1e7)
    return state, cost, done
