"""LPIPS from given AlexNet weights, and its absence; nothing is downloaded, and the weights here are random."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vafa_monai.metrics import PerceptualSimilarityMetric, build_lpips, load_lpips, lpips_by_slices
from vafa_monai.metrics import image_quality as lpips_network

SIZE = (2, 1, 33, 35, 3)


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Tensor]:
    """Random weights of the convolutions, under torchvision's names."""
    with torch.device("meta"):
        shapes = torchvision.models.alexnet(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    features = {name: tensor.shape for name, tensor in shapes.items() if name.startswith("features.")}
    return {name: torch.randn(shape, generator=generator) / shape[0] ** 0.5 for name, shape in features.items()}


@pytest.fixture(scope="module")
def lpips(alexnet: dict[str, Tensor]) -> nn.Module:
    return build_lpips(alexnet)


@pytest.fixture
def weights_file(alexnet: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The random weights as a file whose name has the start of its hash, where torchvision would put it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(alexnet, tmp_path / "weights.pth")
    return accept(tmp_path / "weights.pth", tmp_path / "checkpoints", monkeypatch)


def accept(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give ``file`` the name that its hash asks for."""
    name = f"alexnet-owt-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setattr(lpips_network, "WEIGHTS_NAME", name)
    return file.rename(folder / name)


def pair() -> tuple[Tensor, Tensor]:
    clean, noise = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))
    return (2 * clean - 1 + 0.3 * noise).clamp(-1, 1), 2 * clean - 1


def features_of(alexnet: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """The five ReLU outputs of AlexNet for an RGB batch, each with unit length over its channels."""
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).view(2, 1, 3, 1, 1)
    image, outputs = (image - shift) / scale, []
    strides = {0: {"stride": 4, "padding": 2}, 3: {"padding": 2}}
    for index in (0, 3, 6, 8, 10):
        image = F.max_pool2d(image, 3, 2) if index in (3, 6) else image
        kernel, bias = alexnet[f"features.{index}.weight"], alexnet[f"features.{index}.bias"]
        image = F.conv2d(image, kernel, bias, **strides.get(index, {"padding": 1})).relu()
        outputs.append(image / image.norm(dim=1, keepdim=True))
    return outputs


def test_distance_equals_its_definition_on_the_given_weights(alexnet, lpips):
    adv, clean = (volume[:1, 0, ..., 0].expand(3, -1, -1)[None] for volume in pair())
    heads = [getattr(lpips, f"lin{index}").model[-1].weight for index in range(5)]
    pairs = zip(heads, features_of(alexnet, adv), features_of(alexnet, clean), strict=True)
    expected = sum(F.conv2d((first - second).square(), head).mean() for head, first, second in pairs)
    assert lpips(adv, clean).item() == pytest.approx(expected.item(), rel=1e-4)


def test_network_is_in_eval_mode_and_frozen(lpips):
    assert not any(part.training for part in lpips.modules())
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_equal_volumes_have_distance_zero_and_others_have_not(lpips):
    adv, clean = pair()
    assert torch.equal(lpips_by_slices(clean, clean, lpips), torch.zeros(2))
    assert (lpips_by_slices(adv, clean, lpips) > 1e-3).all()


def test_distance_of_a_volume_is_the_mean_over_its_axial_slices(lpips):
    adv, clean = pair()
    slices = [
        [lpips(*(volume[i : i + 1, ..., k].expand(-1, 3, -1, -1) for volume in (adv, clean))) for k in range(3)]
        for i in range(2)
    ]
    expected = torch.tensor([[value.item() for value in row] for row in slices]).mean(1)
    torch.testing.assert_close(lpips_by_slices(adv, clean, lpips), expected, rtol=1e-4, atol=0)


def test_deep_volume_is_measured_in_chunks_of_equal_weight():
    """40 slices are 32 and 8: the mean is over slices, not over chunks."""
    adv = torch.zeros(1, 1, 2, 2, 40)
    adv[..., 35] = 1

    def largest(first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs().amax((1, 2, 3), keepdim=True)

    assert lpips_by_slices(adv, torch.zeros_like(adv), largest).item() == pytest.approx(1 / 40)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_distance_of_several_channels_is_the_mean_of_theirs(lpips, channels):
    adv, clean = (volume.expand(-1, channels, -1, -1, -1).clone() for volume in pair())
    adv[:, 1:] = clean[:, 1:]  # only the first differs
    expected = lpips_by_slices(adv[:, :1], clean[:, :1], lpips) / channels
    torch.testing.assert_close(lpips_by_slices(adv, clean, lpips), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1, 30, 40, 3), (1, 2, 40, 8, 3)], ids=str)
def test_slices_too_small_for_the_network_are_a_note(lpips, monkeypatch, shape):
    metric = PerceptualSimilarityMetric()
    monkeypatch.setattr(metric, "lpips", lpips)
    metric.note = None
    metric(torch.rand(shape), torch.rand(shape))
    assert metric.aggregate()[4].isnan()
    assert metric.aggregate()[:4].isfinite().all()
    assert metric.note == f"LPIPS is absent: axial slices must be 31 voxels wide, got {shape[2]} x {shape[3]}."


def test_without_the_package_there_is_a_note_and_no_network(monkeypatch):
    monkeypatch.setattr("vafa_monai.metrics.image_quality.optional_import", lambda name: (None, False))
    assert load_lpips() == (None, "LPIPS is absent: pip install lpips.")


def test_metric_scales_value_range_to_that_of_lpips(lpips, monkeypatch):
    adv, clean = pair()
    metric = PerceptualSimilarityMetric(value_range=(-100.0, 300.0))
    monkeypatch.setattr(metric, "lpips", lpips)
    metric(200 * adv + 100, 200 * clean + 100)
    expected = lpips_by_slices(adv, clean, lpips)
    torch.testing.assert_close(metric.get_buffer()[:, 4], expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(metric.aggregate()[4], expected.mean(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("given", [True, False], ids=["given path", "folder of torchvision"])
def test_weights_are_found_and_loaded(weights_file, lpips, given):
    loaded, note = load_lpips(weights_file if given else None)
    assert note is None
    torch.testing.assert_close(loaded.state_dict(), lpips.state_dict(), rtol=0, atol=0)


def test_absent_weights_give_no_network_and_a_sentence_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    network, note = load_lpips()
    assert network is None
    assert f"Download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth into {tmp_path}/checkpoints" in note
    assert note.endswith("or pass its path as lpips_weights.")


def test_absent_file_that_was_asked_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lpips_weights must be a file, got '.*absent\.pth'"):
        load_lpips(tmp_path / "absent.pth")


def test_file_with_another_hash_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"other weights")
    digest = hashlib.sha256(b"other weights").hexdigest()[:8]
    with pytest.raises(ValueError, match=rf"must be torchvision's alexnet-owt-7be5be79\.pth, got .* {digest}"):
        load_lpips(tmp_path / "weights.pth")


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("trusted", [False, True], ids=["another hash", "even with the right hash"])
def test_payload_in_a_weights_file_never_runs(tmp_path, monkeypatch, trusted):
    file, proof = tmp_path / "weights.pth", tmp_path / "proof"
    torch.save({"features.0.weight": Payload(proof)}, file)
    if trusted:
        file = accept(file, tmp_path, monkeypatch)
    with pytest.raises(pickle.UnpicklingError if trusted else ValueError, match=r"[Ww]eights"):
        load_lpips(file)
    assert not proof.exists()
    torch.load(file, weights_only=False)  # the payload works
    assert proof.exists()
