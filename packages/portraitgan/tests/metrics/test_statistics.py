"""Distances between sets of features, against their formulas."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch

from portraitgan.metrics.statistics import Moments, frechet_distance, joined, kernel_distance


def features(seed, count, size, shift=0.0):
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((size, size))
    return torch.from_numpy(random.standard_normal((count, size)) @ mixing + shift)


def reference(a, b):
    """The formula, with scipy's matrix square root of the product."""
    a, b = a.numpy(), b.numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    moments = Moments.of(features(0, 200, 12))
    assert frechet_distance(moments, moments) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_frechet_distance_follows_its_formula(shift):
    a, b = features(1, 150, 10), 1.3 * features(2, 120, 10, shift)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(reference(a, b), rel=1e-9)


def test_frechet_distance_of_known_gaussians():
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    size, count = 4, 7
    means = np.array([[0, 0, 0, 0], [1, -2, 0, 3.0]])
    spreads = np.array([[1, 2, 3, 4.0], [2, 2, 1, 0.5]])

    def moments(mean, spread):
        products = (count - 1) * torch.diag(torch.from_numpy(spread**2))
        total = count * torch.from_numpy(mean)
        return Moments(count, total, products + torch.outer(total, total) / count)

    wanted = ((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    a, b = (moments(means[i], spreads[i]) for i in range(2))
    assert a.mean.shape == (size,)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-12)


def test_fewer_images_than_features_give_a_finite_symmetric_distance():
    a, b = Moments.of(features(3, 5, 40)), Moments.of(features(4, 6, 40))
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert np.isfinite(there) and there > 0
    assert there == pytest.approx(back, rel=1e-6)


def test_moments_add_up_over_parts():
    whole = features(5, 90, 6)
    parts = joined([Moments.of(whole[:13]), Moments.of(whole[13:50]), Moments.of(whole[50:])])
    np.testing.assert_allclose(parts.mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, np.cov(whole.numpy(), rowvar=False), rtol=1e-10)
    assert parts.count == 90
    nothing = Moments.none(6)
    assert frechet_distance(parts + nothing, Moments.of(whole)) == pytest.approx(0, abs=1e-7)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="1 images"):
        _ = Moments.of(features(0, 1, 3)).covariance


def test_kernel_distance_follows_its_definition():
    """The unbiased estimate, summed pair by pair."""
    x, y = features(6, 9, 5), features(7, 9, 5, 0.5)

    def kernel(a, b):
        return float((a @ b / 5 + 1) ** 3)

    within = sum(kernel(one[i], one[j]) for one in (x, y) for i, j in itertools.permutations(range(9), 2)) / (
        9 * 8
    )
    across = sum(kernel(a, b) for a in x for b in y) / 81
    mean, spread = kernel_distance(x, y, subsets=1, size=9)
    assert mean == pytest.approx(within - 2 * across, rel=1e-9)
    assert spread == 0


def test_kernel_distance_is_zero_in_the_mean_for_equal_distributions_only():
    random = np.random.default_rng(8)
    a, b = (torch.from_numpy(random.standard_normal((600, 8))) for _ in range(2))
    same, spread = kernel_distance(a, b, subsets=60, size=200)
    other, _ = kernel_distance(a, b + 0.5, subsets=60, size=200)
    assert abs(same) < 3 * spread / np.sqrt(60) + 0.02
    assert other > 10 * abs(same)


def test_kernel_distance_repeats_with_its_seed():
    a, b = features(9, 60, 4), features(10, 60, 4)
    assert kernel_distance(a, b, 3, 5, 20) == kernel_distance(a, b, 3, 5, 20)
    assert kernel_distance(a, b, 3, 5, 20) != kernel_distance(a, b, 4, 5, 20)
