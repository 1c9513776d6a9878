"""MONAI's own export commands on every bundle, with the hardened checkpoint, against the network itself."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).parents[2] / "bundles"
BUNDLES = [
    "mni152_unetr_segmentation",
    "acdc_unetrpp_segmentation",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "acdc_unetr_segmentation",
            "hippocampus_unetr_segmentation",
            "hippocampus_unetrpp_segmentation",
            "synapse_unetr_segmentation",
            "synapse_unetrpp_segmentation",
        )
    ),
]
NAMES = {"input_names": ["image"], "output_names": ["pred"]}
ANY_BATCH = {"dynamic_axes": {"image": {0: "batch"}, "pred": {0: "batch"}}}


@pytest.fixture(scope="module", params=BUNDLES)
def exported(request, tiny, fork_python, tmp_path_factory):
    """Export one bundle with other weights than its first ones; return its folder, network and spatial shape."""
    folder = Path(shutil.copytree(ROOT / request.param, tmp_path_factory.mktemp("export") / request.param))
    overrides = tiny[request.param.split("_")[1]]
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({key: ast.literal_eval(str(value)) for key, value in overrides.items()})
    torch.manual_seed(1)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), folder / "models" / "model_vaft.pt")
    shape = ast.literal_eval(overrides["roi_size"])
    flags = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    common = ["--ckpt_file", "models/model_vaft.pt", "--meta_file", "configs/metadata.json"]
    common += ["--config_file", "configs/inference.json", "--input_shape", str([2, 1, *shape])]
    for command, name, more in (
        ("ckpt_export", "model_vaft.ts", []),
        ("onnx_export", "model_vaft.onnx", ["--converter_kwargs", str(NAMES | ANY_BATCH)]),
    ):
        if command == "onnx_export":
            pytest.importorskip("onnxscript")
        words = ["monai.bundle", command, "network_def", "--filepath", f"models/{name}"]
        process = fork_python([*words, *common, *more, *flags], folder)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
    return folder, network, shape


def volumes(shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 1, *shape, generator=generator) for batch in (1, 2, 3)]


def test_torchscript_gives_what_the_checkpoint_gives(exported):
    folder, network, shape = exported
    files = {"metadata.json": ""}
    scripted = torch.jit.load(str(folder / "models" / "model_vaft.ts"), _extra_files=files)
    assert json.loads(files["metadata.json"])["version"]
    for volume in volumes(shape):
        with torch.no_grad():
            torch.testing.assert_close(scripted(volume), network(volume), atol=1e-4, rtol=0)


def test_onnx_gives_what_the_checkpoint_gives(exported):
    runtime = pytest.importorskip("onnxruntime")
    folder, network, shape = exported
    session = runtime.InferenceSession(folder / "models" / "model_vaft.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [1, *shape]  # the file says which windows it takes
    for volume in volumes(shape):
        (pred,) = session.run(["pred"], {"image": volume.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(pred, network(volume).numpy(), atol=1e-4, rtol=0)
