import numpy as np
import pytest
from scipy.optimize import minimize

from phq_data import schema
from phq_data.review import items
from phq_data.review.rules import Policy
from phq_data.review.store import NewDecision
from phq_data.review.triage import NAMES, fit, learn, learn_from, propose, wilson_lower

from .conftest import fill, item, vote


def world(count, noise, seed=0):
    """Features, verdicts that follow error probability and shoulder error, and photos."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(NAMES)))
    score = 3.0 - 2.5 * features[:, 0] - 2.0 * features[:, 2]
    accepted = score + noise * random.logistic(size=count) > 0
    return features, accepted, [schema.make_id("photo", seed, i) for i in range(count)]


def test_the_fit_is_the_minimum_of_the_penalised_likelihood():
    features, accepted, _ = world(400, 1.0)
    model = fit(features, accepted, ridge=2.0)
    standard = (features - model.mean) / model.scale

    def loss(beta):
        z = standard @ beta[:-1] + beta[-1]
        return np.logaddexp(0, z).sum() - z[accepted].sum() + beta[:-1] @ beta[:-1]

    best = minimize(loss, np.zeros(len(NAMES) + 1), method="BFGS", options={"gtol": 1e-6}).x
    assert np.allclose([*model.weights, model.bias], best, atol=1e-3)


def test_separable_decisions_do_not_run_away():
    features, accepted, _ = world(300, 0.0)
    model = fit(features, accepted)
    assert np.isfinite(model.weights).all() and np.abs(model.weights).max() < 20


def test_the_told_precision_is_that_of_new_portraits():
    features, accepted, photos = world(2000, 0.7)
    found = learn_from(features, accepted, photos, target=0.97)
    side = found.side("accept")
    fresh, truth, _ = world(20_000, 0.7, seed=1)
    beyond = found.model.probability(fresh) >= side.threshold
    assert side.covered > 0.2 and side.lower < side.precision
    assert abs(truth[beyond].mean() - side.precision) < 0.02
    assert truth[beyond].mean() > 0.95


def test_what_people_decide_at_random_is_never_sure():
    random = np.random.default_rng(3)
    features = random.normal(size=(1000, len(NAMES)))
    photos = [schema.make_id("photo", i) for i in range(1000)]
    found = learn_from(features, random.random(1000) < 0.5, photos, target=0.97)
    assert [side.threshold for side in found.sides] == [None, None]
    assert all(0.4 < side.best < 0.97 for side in found.sides)  # it says how far it came


def test_the_weights_name_what_the_model_goes_by():
    found = learn_from(*world(1000, 0.5))
    assert {name for name, _ in found.weights()[:2]} == {"error_probability", "shoulder_error"}
    assert all(weight < 0 for _, weight in found.weights()[:2])


def test_few_or_one_sided_decisions_are_not_enough():
    features, accepted, photos = world(90, 0.5)
    assert "the triage needs 100" in learn_from(features, accepted, photos).why
    assert learn_from(features, np.ones(90, bool), photos).model is None


def test_missing_numbers_count_as_their_mean():
    features, accepted, _ = world(300, 0.5)
    features[:50, 1] = np.nan
    features[:, 9] = np.nan
    model = fit(features, accepted)
    assert np.isfinite(model.probability(features)).all() and model.weights[9] == pytest.approx(0)


def test_wilsons_bound_of_a_worked_example():
    # 9 of 10: the roots of (p - 0.9)^2 = z^2 p (1 - p) / 10.
    z = 1.645
    roots = np.roots([1 + z * z / 10, -(1.8 + z * z / 10), 0.81])
    assert wilson_lower(9, 10) == pytest.approx(min(roots)) and wilson_lower(0, 0) == 0


@pytest.fixture
def judged(empty_store):
    """400 portraits; the first 300 judged by their error probability."""
    store = fill(empty_store, 400)
    store.set_policy(Policy(overlap_share=0.1, gold_share=0))
    known = {one.portrait_id: one for one in (item(i) for i in range(400))}
    verdicts = [(p, "accept" if known[p].error_probability < 0.6 else "reject") for p in store.ids[:300]]
    store.record([NewDecision(f"D{i}", *pair) for i, pair in enumerate(verdicts)], "rosa")
    return store, known


def test_a_batch_holds_open_sure_portraits_and_none_that_measure_people(judged):
    store, known = judged
    items.set_gold(store, {store.ids[310]: "accept"})
    found = learn(store)
    batch = propose(store, found, "accept", 30, "sam")
    assert 10 <= len(batch) <= 30
    assert [chance for _, chance in batch] == sorted((chance for _, chance in batch), reverse=True)
    assert all(p in store.ids[300:] and known[p].error_probability < 0.65 for p, _ in batch)
    with store.database.read() as connection:
        import sqlalchemy as sa

        two = {
            row[0] for row in connection.execute(sa.text("SELECT portrait_id FROM items WHERE required = 2"))
        }
    assert not {p for p, _ in batch} & (two | {store.ids[310]})


def test_accepted_batches_teach_nothing(judged):
    store, _ = judged
    before = learn(store).decisions
    vote(store, "sam", store.ids[350], client="triage")
    assert learn(store).decisions == before == 300
