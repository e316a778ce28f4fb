import numpy as np
import pytest

from phq_data.bodies.anny import load_body
from phq_data.models.smplify.objective import Objective, Observations, State
from phq_data.models.smplify.settings import SmplifyConfig
from phq_data.models.smplify.skeleton import POINT_NAMES, Skeleton, right_jacobian
from phq_data.rig import rotation_matrix

DIRECTIONS = 4


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return Skeleton.of(load_body(), DIRECTIONS, {})


def random_objective(skeleton: Skeleton, count: int = 6) -> tuple[Objective, State]:
    rng = np.random.default_rng(3)
    focal = rng.uniform(800, 2000, count)
    scale = rng.uniform(200, 500, count)
    views = rng.normal(size=(count, 2, 3))
    observed = Observations(
        pixels=rng.normal(0, 200, (count, 9, 2)),
        deviation=rng.uniform(0.01, 0.1, (count, 9)),
        weights=rng.uniform(0, 1, (count, 9)),
        focal=focal,
        scale=scale,
        directions=views / np.linalg.norm(views, axis=-1, keepdims=True),
        direction_trust=rng.uniform(0.5, 3, (count, 2)),
    )
    values = np.concatenate(
        [
            rng.normal(0, 0.2, (count, 2)),
            rng.uniform(0.8, 1.5, (count, 1)),
            rng.normal(0, 0.7, (count, 9)),
            rng.normal(0, 1, (count, DIRECTIONS)),
        ],
        axis=1,
    )
    state = State(rotation_matrix(rng.normal(0, 1.5, (count, 3))), values)
    return Objective.of(skeleton, SmplifyConfig(shape_directions=DIRECTIONS), observed), state


def test_points_are_those_of_the_full_body(skeleton: Skeleton):
    body, rng = load_body(), np.random.default_rng(0)
    angles, shape = rng.normal(0, 0.4, (5, 9)), rng.normal(0, 1, (5, DIRECTIONS))
    points, _ = skeleton.place(angles, shape)
    pose = body.pose(angles[:, :6], {"waist": angles[:, 6:]})
    whole = body.posed_landmarks(shape, pose)[:, [body.landmark(name) for name in POINT_NAMES]]
    np.testing.assert_allclose(points, whole, atol=1e-9)


def test_residual_derivatives_match_central_differences(skeleton: Skeleton):
    objective, state = random_objective(skeleton)
    _, _, d_error, d_prior = objective.residuals(state)
    parameters, step = d_prior.shape[-1], 1e-6
    for index in range(parameters):
        move = np.zeros((len(state.values), parameters))
        move[:, index] = step
        ahead, behind = (objective.residuals(state.moved(sign * move)) for sign in (1, -1))
        for exact, i in ((d_error, 0), (d_prior, 1)):
            numeric = (ahead[i] - behind[i]) / (2 * step)
            scale = 1.0 + np.abs(exact[..., index])
            assert (np.abs(numeric - exact[..., index]) / scale).max() < 2e-4, (i, index)


def test_gradient_is_that_of_the_robust_cost(skeleton: Skeleton):
    objective, state = random_objective(skeleton)
    cost, gradient, _ = objective.evaluate(state)
    np.testing.assert_allclose(cost, objective.cost(state))
    step = 1e-6
    for index in range(gradient.shape[1]):
        move = np.zeros_like(gradient)
        move[:, index] = step
        numeric = (objective.cost(state.moved(move)) - objective.cost(state.moved(-move))) / (2 * step)
        np.testing.assert_allclose(2 * gradient[:, index], numeric, rtol=2e-3, atol=2e-3, err_msg=str(index))


@pytest.mark.parametrize("size", [0.0, 1e-5, 9e-4, 1.1e-3, 0.5, 2.5])
def test_right_jacobian_is_the_derivative_of_the_exponential(size: float):
    axis = np.array([0.6, -0.48, 0.64]) * size
    exact = right_jacobian(axis)
    turn, step = rotation_matrix(axis), 1e-6
    for column in range(3):
        nudge = np.zeros(3)
        nudge[column] = step
        numeric = turn.T @ (rotation_matrix(axis + nudge) - rotation_matrix(axis - nudge)) / (2 * step)
        found = np.array([numeric[2, 1], numeric[0, 2], numeric[1, 0]])
        np.testing.assert_allclose(exact[:, column], found, atol=1e-8)


def test_yaw_deviation_is_the_spread_of_the_yaw_under_the_gauss_newton_covariance(skeleton: Skeleton):
    objective, state = random_objective(skeleton)
    _, _, matrix = objective.evaluate(state)

    def yaw(moved: State) -> np.ndarray:
        towards = -np.einsum("mji,mj->mi", moved.root, moved.translation)
        return np.arctan2(towards[:, 0], towards[:, 2])

    step, gradient = 1e-6, np.zeros((matrix.shape[0], matrix.shape[1]))
    for index in range(gradient.shape[1]):
        move = np.zeros_like(gradient)
        move[:, index] = step
        turned = yaw(state.moved(move)) - yaw(state.moved(-move))
        gradient[:, index] = np.angle(np.exp(1j * turned)) / (2 * step)
    covariance = np.linalg.inv(matrix)
    expected = np.sqrt(np.einsum("mi,mij,mj->m", gradient, covariance, gradient))
    np.testing.assert_allclose(objective.yaw_std(state), expected, rtol=1e-3)
