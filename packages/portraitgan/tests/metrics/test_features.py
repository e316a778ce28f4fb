"""Feature networks: Inception against torchvision's, the substitute, files that are none."""

import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.features import RANDOM, RandomConvolutions, open_features
from portraitgan.metrics.inception import Inception, resize_from_corner


@pytest.fixture(scope="module")
def torchvision_network():
    """torchvision's Inception with seeded weights, its pooling as in the graph of 2015."""
    models = pytest.importorskip("torchvision.models.inception")
    torch.manual_seed(0)
    network = models.inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    network.fc = nn.Identity()

    def average(x, kernel_size, stride, padding):
        return functional.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)

    class Functional:
        """The module's functions, averages with borders as TensorFlow has them."""

        avg_pool2d = staticmethod(average)
        adaptive_avg_pool2d = staticmethod(functional.adaptive_avg_pool2d)
        max_pool2d = staticmethod(functional.max_pool2d)
        relu = staticmethod(functional.relu)

    class Maxima(Functional):
        avg_pool2d = staticmethod(functional.max_pool2d)  # type: ignore[assignment]

    last = network.Mixed_7c

    def forward(x):
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(models, "F", Functional)
                inner = last.forward

                def with_maxima(x):
                    patch.setattr(models, "F", Maxima)
                    found = inner(x)
                    patch.setattr(models, "F", Functional)
                    return found

                patch.setattr(last, "forward", with_maxima)
                return network.eval()(x)
        finally:
            assert models.F is functional

    return network.state_dict(), forward


@pytest.mark.slow
def test_inception_is_torchvisions_with_the_pooling_of_2015(torchvision_network):
    state, forward = torchvision_network
    pixels = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8)
    with torch.no_grad():
        wanted = forward((pixels.float() - 128) / 128)
    found = Inception(state)(pixels)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-4 * float(wanted.abs().max()))


@pytest.mark.slow
def test_weights_come_from_a_torch_file_or_safetensors_and_the_result_names_them(
    torchvision_network, tmp_path
):
    state, _ = torchvision_network
    torch.save(state, tmp_path / "weights.pth")
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "weights.safetensors")
    pixels = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    first, second = (open_features(tmp_path / f"weights.{kind}") for kind in ("pth", "safetensors"))
    assert torch.equal(first.extract(pixels), second.extract(pixels))
    assert first.size == 2048
    assert first.name == f"inception:{first.sha256[:12]}"
    assert not first.standard and "may not compare" in first.note


def test_enlarging_starts_at_the_corner():
    """Output pixel i lies at input position i * H / side, as TensorFlow 1 has it."""
    image = torch.from_numpy(np.random.default_rng(0).random((1, 2, 5, 4)))
    found = resize_from_corner(image, 9)
    for i in range(9):
        for j in range(9):
            y, x = i * 5 / 9, j * 4 / 9
            top, left = int(y), int(x)
            low, right = min(top + 1, 4), min(left + 1, 3)
            fy, fx = y - top, x - left
            wanted = (
                (1 - fy) * (1 - fx) * image[0, :, top, left]
                + (1 - fy) * fx * image[0, :, top, right]
                + fy * (1 - fx) * image[0, :, low, left]
                + fy * fx * image[0, :, low, right]
            )
            torch.testing.assert_close(found[0, :, i, j], wanted)


def test_the_substitute_has_the_same_weights_everywhere_and_says_what_it_is():
    network = open_features(None)
    assert network.name == RANDOM
    assert network.sha256 == "aec3f36a2a082b30ea5f1c92c153bb1446e681e7d1b4286727afbf8e693e2d7d"
    assert "not with" in network.note
    assert not network.standard


def test_the_substitute_sees_colors_edges_and_places():
    network = RandomConvolutions()
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=random)
    blurred = functional.avg_pool2d(functional.pad(pixels.float(), (1, 1, 1, 1)), 3, 1).to(torch.uint8)
    changed = torch.cat([pixels, pixels.flip(1), blurred, pixels.flip(2), pixels // 2])
    found = network(changed)
    assert found.shape == (5, 512)
    for other in found[1:]:
        assert (other - found[0]).norm() > 0.05 * found[0].norm()
    # Of every size, and whatever lies beside it in the batch.
    torch.testing.assert_close(network(changed[2:3]), found[2:3], rtol=1e-4, atol=1e-5)
    assert network(torch.zeros(1, 3, 200, 200, dtype=torch.uint8)).shape == (1, 512)


@pytest.mark.parametrize(
    "what", ["missing", "text", "other network", "pickled code", "packed", "odd storage"]
)
def test_a_file_that_is_no_inception_is_refused(tmp_path, what):
    path = tmp_path / "weights.pth"
    if what == "text":
        path.write_text("not weights")
    elif what == "other network":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    elif what == "pickled code":
        torch.save(nn.Linear(2, 2), path)
    elif what == "odd storage":  # a tensor's memory is named by a number
        torch.save({"a": torch.ones(3)}, path)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, b"\x80\x02K\x01Q." if name.endswith("data.pkl") else data)
    elif what == "packed":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(MetricError, match=r"weights\.pth"):
        open_features(path)
