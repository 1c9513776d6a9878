"""The configs as text: what they name exists, and what must stand alone does."""

import json
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from vafa_monai.attacks import Attack, GradientAttack

BUNDLE = Path(__file__).parents[2] / "bundles" / "mni152_unetr_segmentation"
CONFIGS = BUNDLE / "configs"
ATTACKS = sorted(path.stem for path in (CONFIGS / "attacks").glob("*.json"))
CHAINS = [
    ["train", "vaft"],
    ["train", "evaluate"],
    ["train", "evaluate", "attack"],
    ["train", "multi_gpu_train"],
    ["train", "vaft", "multi_gpu_train"],
    *(["train", "evaluate", f"attacks/{name}"] for name in ATTACKS),
]
ENTRY_POINTS = {"evaluate", "attack", "vaft", "multi_gpu_train"}  # may bring ids of their own at the top level


def read(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def files(chain):
    return [str(CONFIGS / f"{name}.json") for name in chain]


def targets(config):
    if isinstance(config, dict):
        own = [config["_target_"]] if "_target_" in config else []
        return own + [target for value in config.values() for target in targets(value)]
    return [target for value in config for target in targets(value)] if isinstance(config, list) else []


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.json")), ids=lambda path: path.stem)
def test_config_is_json_with_indent_4(path):
    text = path.read_text()
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_every_overlay_key_exists_in_its_base(chain):
    base = ConfigParser()
    base.read_config(files(chain[:-1]))
    for key in read(chain[-1]):
        known = key.lstrip("+") in base
        assert known or (chain[-1] in ENTRY_POINTS and "#" not in key and not key.startswith("+")), key


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_overlay_of_vaft_changes_what_vaft_has(name):
    assert set(read(f"attacks/{name}")) - {"attack_role"} <= set(read("vaft"))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.json")), ids=lambda path: path.stem)
def test_every_target_can_be_imported(path):
    for target in targets(json.loads(path.read_text())):
        assert ComponentLocator().get_component_module_name(target) or locate(target) is not None, target


@pytest.mark.parametrize("name", ["train", "inference"])
def test_standalone_config_needs_only_monai(name):
    assert "vafa_monai" not in (CONFIGS / f"{name}.json").read_text()


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_overlay_builds_the_attack_of_its_name(name):
    parser = ConfigParser()
    parser.read_config(files(["train", "evaluate", f"attacks/{name}"]))
    assert isinstance(parser.get_parsed_content("attack"), Attack)
    assert parser["attack_name"] == name
    learned = isinstance(parser.get_parsed_content("attack"), GradientAttack)
    assert parser["attack_role"] == ("attack" if learned else "control")


def test_network_of_training_and_inference_is_the_same():
    networks = []
    for name in ("train", "inference"):
        parser = ConfigParser()
        parser.read_config(files([name]))
        networks.append(parser.get_parsed_content("network_def"))
    first, second = ({key: tuple(value.shape) for key, value in net.state_dict().items()} for net in networks)
    assert first == second


@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        (["train"], "train"),
        (["train", "vaft"], "train"),
        (["train", "evaluate"], "train"),
        (["train", "evaluate", "attack"], "train"),
        (["inference"], "infer"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else value,
)
def test_properties_are_those_of_the_specification(chain, kind, dataset_dir):
    kwargs = {"meta_file": str(CONFIGS / "metadata.json"), "logging_file": False, "init_id": "nothing"}
    workflow = ConfigWorkflow(config_file=files(chain), workflow_type=kind, dataset_dir=str(dataset_dir), **kwargs)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_metadata_fits_the_newest_schema(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_bytes((Path(__file__).parent / "meta_schema_20240725.json").read_bytes())
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(schema))
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(read("metadata") | {"authors": ["a", "list"]}))
    with pytest.raises(ValueError, match=r"not of type"):
        verify_metadata(meta_file=str(broken), filepath=str(schema))


def test_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device="cpu",
    )


def test_changelog_of_the_metadata_has_its_version():
    metadata = read("metadata")
    assert metadata["version"] in metadata["changelog"]
