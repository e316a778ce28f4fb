"""DeepLabV3 masks, with random weights: probabilities, batches, shares; and what is no weights file."""

from __future__ import annotations

import importlib
import os
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", reason="DeepLabV3 needs the extra 'paper'")
deeplab = importlib.import_module("phq_data.models.deeplab")
from phq_data.errors import ModelError  # noqa: E402
from phq_data.models import importers, registry  # noqa: E402
from phq_data.models.protocols import Segmenter  # noqa: E402

SIZE = 96


def person_at(column: float) -> np.ndarray:
    """Upright keypoints around a column."""
    points = np.ones((17, 3))
    points[:, 0] = column + np.where(np.arange(17) % 2, -6, 6)
    points[:, 1] = np.linspace(8, SIZE - 8, 17)
    return points


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = deeplab.build()
    with torch.no_grad():
        made.classifier[4].weight *= 0.001  # random logits are large: they would say yes or no everywhere
    return made


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 3), np.uint8))


def test_a_mask_is_the_softmax_of_the_class_person(network, pictures):
    segmenter = deeplab.DeepLabSegmenter(network, "0")
    assert isinstance(segmenter, Segmenter)
    x = torch.from_numpy(pictures[0]).double().permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network(((x - mean[:, None, None]) / std[:, None, None]).float()[None])["out"][0]
    wanted = torch.exp(logits[15]) / torch.exp(logits).sum(0)
    alpha = segmenter.segment(pictures[0], person_at(48), [])
    assert alpha.shape == (SIZE, SIZE) and alpha.dtype == np.uint8
    assert np.abs(alpha - wanted.numpy() * 255).max() <= 0.51
    assert len(np.unique(alpha)) > 2  # soft, not yes or no


def test_a_batch_gives_what_one_by_one_gives(network, pictures):
    segmenter = deeplab.DeepLabSegmenter(network, "0", deeplab.DeepLabConfig(batch=2))
    mixed = [*pictures, pictures[0][:64, :64]]
    together = segmenter.probabilities(mixed)
    for picture, found in zip(mixed, together, strict=True):
        np.testing.assert_allclose(found, segmenter.probabilities([picture])[0], atol=1e-5)


def test_bystanders_stay_with_everybody_and_go_with_the_target_alone(network, pictures):
    left, right = person_at(24), person_at(72)
    whole = deeplab.DeepLabSegmenter(network, "0", deeplab.DeepLabConfig(include_bystanders=True))
    own = deeplab.DeepLabSegmenter(network, "0", deeplab.DeepLabConfig(include_bystanders=False))
    assert whole.fingerprint != own.fingerprint
    everybody = whole.segment(pictures[0], left, [right])
    np.testing.assert_array_equal(everybody, whole.segment(pictures[0], left, []))
    target = own.segment(pictures[0], left, [right])
    np.testing.assert_array_equal(target[:, :40], everybody[:, :40])
    assert not target[:, 56:].any() and everybody[:, 56:].any()
    np.testing.assert_array_equal(own.segment(pictures[0], left, []), everybody)


def test_shares_add_up_between_two_people():
    left, right = person_at(24), person_at(72)
    a = deeplab.share((SIZE, SIZE), left, [right], 0.2)
    b = deeplab.share((SIZE, SIZE), right, [left], 0.2)
    np.testing.assert_allclose(a + b, 1.0, atol=1e-5)
    unknown = right * [1, 1, 0]
    assert (deeplab.share((SIZE, SIZE), left, [unknown], 0.2) == 1).all()


def test_torchvisions_file_is_added_and_others_are_refused(tmp_path, monkeypatch):
    from torchvision.models.segmentation import deeplabv3_resnet101

    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda weight, **_: weight)  # saves seconds
    state = deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    assert set(deeplab.read_weights(path)) == set(state)
    assert deeplab.build(deeplab.read_weights(path)).aux_classifier is None
    with pytest.raises(ModelError, match="expected cd0a2569"):  # not torchvision's own numbers
        importers.add("deeplabv3-resnet101", path)
    with pytest.raises(ModelError, match="phq models add deeplabv3-resnet101"):
        registry.segmenter("deeplab")

    def refused(content, message):
        torch.save(content, path)
        with pytest.raises(ModelError, match=message):
            deeplab.read_weights(path)

    refused({k: v for k, v in state.items() if k != "classifier.4.bias"}, "lacks 'classifier.4.bias'")
    refused(state | {"classifier.4.bias": torch.zeros(2)}, r"another network: .* is \[2\], not \[21\]")
    refused(state | {"classifier.4.bias": torch.full((21,), torch.nan)}, "not finite")
    refused(state | {"classifier.4.bias": torch.zeros(21).to_sparse()}, "_rebuild_sparse_tensor")
    refused(state | {"backbone.bn1.running_var": -torch.ones(64)}, "negative variances")

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ModelError, match="refused"):
        deeplab.read_weights(path)
    assert not (tmp_path / "made").exists()
    with pytest.raises(ModelError, match="there is no file"):
        deeplab.read_weights(tmp_path / "nothing")
