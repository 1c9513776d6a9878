"""The configs as text: what they name exists, and what must stand alone does."""

import json
import re
from ast import literal_eval
from pathlib import Path
from pydoc import locate

import pytest
import torch
import yaml
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from vafa_monai.attacks import VAFA, Attack, AttackEnsemble, GoalAttack, LossAttack
from vafa_monai.results.attack_name import attack_description, attack_title

ROOT = Path(__file__).parents[2] / "bundles"
ATTACKS_PAGE = ROOT.parent / "docs" / "attacks.md"
BUNDLES = sorted(path.name for path in ROOT.glob("*_segmentation"))
CONFIGS = {name: ROOT / name / "configs" for name in BUNDLES}
SHARED = sorted(path.relative_to(ROOT / "overlays") for path in (ROOT / "overlays").rglob("*.json"))
OWN = [(bundle, Path(f"{name}.json")) for bundle in BUNDLES for name in ("train", "inference", "metadata")]
FILES = OWN + [(BUNDLES[0], path) for path in SHARED]
ATTACKS = sorted(path.stem for path in SHARED if path.parent.name == "attacks")
RECIPES = sorted(path.stem for path in SHARED if path.parent.name == "hardening")
CHAINS = [
    ["train", "harden"],
    *(["train", "harden", f"hardening/{name}"] for name in RECIPES),
    ["train", "evaluate"],
    ["train", "evaluate", "attack"],
    ["train", "evaluate", "tiles"],
    ["train", "evaluate", "zscored"],
    ["train", "evaluate", "tiles", "zscored"],
    *(
        ["train", *more, f"tracking/{kind}_{tool}"]
        for kind, more in (("train", []), ("evaluate", ["evaluate"]))
        for tool in ("mlflow", "tensorboard")
    ),
    ["train", "multi_gpu_train"],
    ["train", "harden", "hardening/pgd", "multi_gpu_train"],
    *(["train", "evaluate", f"attacks/{name}"] for name in ATTACKS),
]
ENTRY_POINTS = {"evaluate", "attack", "harden", "multi_gpu_train"}  # may bring ids of their own at the top level
PUBLISHED_UNETRPP = {"synapse_unetrpp_segmentation": 42_952_275, "acdc_unetrpp_segmentation": 66_796_404}

every_bundle = pytest.mark.parametrize("bundle", BUNDLES)


def read(bundle, name):
    return json.loads((CONFIGS[bundle] / f"{name}.json").read_text())


def files(bundle, chain):
    return [str(CONFIGS[bundle] / f"{name}.json") for name in chain]


def parsed(bundle, chain):
    parser = ConfigParser()
    parser.read_config(files(bundle, chain))
    return parser


def targets(config):
    if isinstance(config, dict):
        own = [config["_target_"]] if "_target_" in config else []
        return own + [target for value in config.values() for target in targets(value)]
    return [target for value in config for target in targets(value)] if isinstance(config, list) else []


def test_configs_are_json_with_indent_4():
    texts = {CONFIGS[bundle] / path: (CONFIGS[bundle] / path).read_text() for bundle, path in FILES}
    written = {path: json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n" for path, text in texts.items()}
    assert [path for path, text in texts.items() if text != written[path]] == []


@every_bundle
def test_every_overlay_key_exists_in_its_base(bundle):
    bases = {chain: parsed(bundle, chain) for chain in {tuple(chain[:-1]) for chain in CHAINS}}
    unknown = [
        (chain, key)
        for chain in CHAINS
        for key in read(bundle, chain[-1])
        if key.lstrip("+") not in bases[tuple(chain[:-1])]
        and (chain[-1] not in ENTRY_POINTS or "#" in key or key.startswith("+"))
    ]
    assert unknown == []


def test_attack_overlays_of_hardening_change_what_hardening_has():
    known = {*read(BUNDLES[0], "harden"), "attack_role"}
    assert [name for name in ATTACKS if not set(read(BUNDLES[0], f"attacks/{name}")) <= known] == []


def test_attacks_of_the_overlays_are_on_the_page_and_have_titles():
    rows = [line for line in ATTACKS_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(ATTACKS) - listed == set()
    assert [name for name in ATTACKS if attack_title(name) == name or not attack_description(name)] == []


def test_every_target_can_be_imported():
    locator = ComponentLocator()
    named = {target for bundle, path in FILES for target in targets(json.loads((CONFIGS[bundle] / path).read_text()))}
    assert len(named) > 50
    assert [one for one in named if not locator.get_component_module_name(one) and locate(one) is None] == []


@every_bundle
def test_inference_of_a_unetr_needs_only_monai(bundle):
    own = {"network_def": None} if "unetrpp" in bundle else {}
    assert "vafa_monai" not in json.dumps(read(bundle, "inference") | own)


@every_bundle
def test_training_is_watched_alike_in_all_bundles(bundle):
    assert [read(bundle, "train")[name] for name in ("training", "run")] == [
        read(BUNDLES[0], "train")[name] for name in ("training", "run")
    ]


@every_bundle
def test_attack_overlays_build_the_attacks_of_their_names(bundle):
    for name in ATTACKS:
        parser = parsed(bundle, ["train", "evaluate", f"attacks/{name}"])
        attack = parser.get_parsed_content("attack")
        assert isinstance(attack, Attack), name
        assert parser["attack_name"] == name
        harmful = isinstance(attack, (AttackEnsemble, GoalAttack, LossAttack))
        assert parser["attack_role"] == ("attack" if harmful else "control"), name
        for key in ("eps", "q_max"):
            assert getattr(attack, key, parser.get_parsed_content(key)) == parser.get_parsed_content(key), name


@every_bundle
@pytest.mark.parametrize(("name", "argument"), [("pgd", "eps"), ("square", "eps"), ("gaussian_noise", "std")])
def test_strength_of_an_attack_may_have_a_unit(bundle, name, argument):
    parser = parsed(bundle, ["train", "evaluate", f"attacks/{name}"])
    for text, expected in (("3 gray", 3 / 255), ("4.25 HU", 4.25 / 425 if "synapse" in bundle else None)):
        parser["eps"] = text
        parser.parse(reset=True)
        if expected is None:
            with pytest.raises(RuntimeError, match=r"eps must be a fraction or in gray levels|instantiate"):
                parser.get_parsed_content("attack")
        else:
            assert getattr(parser.get_parsed_content("attack"), argument) == pytest.approx(expected)


@every_bundle
def test_tiles_wrap_whatever_attack_was_chosen(bundle):
    parser = parsed(bundle, ["train", "evaluate", "attacks/pgd", "tiles"])
    tiled = parser.get_parsed_content("applied_attack")
    assert tiled.attack == parser.get_parsed_content("attack")
    assert list(tiled.roi_size) == parser.get_parsed_content("roi_size")


@pytest.mark.parametrize(
    "overlays",
    [
        ["attacks/bim", "tiles", "zscored"],
        ["attacks/bim", "zscored", "tiles"],
        ["zscored", "tiles", "attacks/bim"],
        ["attack", "tiles", "zscored", "attacks/bim"],
    ],
    ids=" ".join,
)
def test_tiles_and_standardized_volumes_combine_in_any_order(overlays):
    parser = parsed(BUNDLES[0], ["train", "evaluate", *overlays])
    adapter = parser.get_parsed_content("applied_attack")
    assert [type(one).__name__ for one in (adapter, adapter.attack, adapter.attack.attack)] == [
        "RangeAdapter",
        "TiledAttack",
        "BIM",
    ]
    assert adapter.attack.attack == parser.get_parsed_content("attack")


@every_bundle
def test_network_of_training_and_inference_is_the_same_and_as_published(bundle):
    with torch.device("meta"):
        networks = [parsed(bundle, [name]).get_parsed_content("network_def") for name in ("train", "inference")]
    first, second = ({key: tuple(value.shape) for key, value in net.state_dict().items()} for net in networks)
    assert first == second
    parameters = sum(parameter.numel() for parameter in networks[0].parameters())
    assert parameters == PUBLISHED_UNETRPP.get(bundle, parameters)
    assert parameters < 1_500_000 or "hippocampus" not in bundle
    image, pred = (read(bundle, "metadata")["network_data_format"][way] for way in ("inputs", "outputs"))
    volume = torch.zeros(1, image["image"]["num_channels"], *image["image"]["spatial_shape"], device="meta")
    logits = networks[1].eval()(volume)
    assert logits.shape == (1, pred["pred"]["num_channels"], *pred["pred"]["spatial_shape"])


@every_bundle
def test_recipes_build_their_attacks_at_their_strength(bundle):
    for recipe in RECIPES:
        parser = parsed(bundle, ["train", "harden", f"hardening/{recipe}"])
        names = ("hardening_eps", "hardening_q_max", "radius", "q_max", "strength_factor")
        eps, width, radius, q_max, factor = (parser.get_parsed_content(name) for name in names)
        assert (eps, width) == (factor * radius, (2 if recipe == "mixed" else factor) * q_max), recipe
        assert parser.get_parsed_content("recipe_name") == recipe
        assert parser.get_parsed_content("model_file") == f"model_{recipe}.pt"
        attacks = parser.get_parsed_content("curriculum").attacks
        assert len(attacks) == (2 if recipe == "mixed" else 1), recipe
        for attack in attacks:
            assert getattr(attack, "eps", eps) == eps, recipe
            assert getattr(attack, "q_max", width) == width, recipe


@every_bundle
@pytest.mark.parametrize("recipe", ["vaft", "vaft_authors"])
def test_budget_of_hardening_is_that_of_the_paper(bundle, recipe):
    parser = parsed(bundle, ["train", "harden", f"hardening/{recipe}"])
    budget = [parser.get_parsed_content(key) for key in ("eps", "q_max", "block_size")]
    edge = 16 if "hippocampus" in bundle else 32
    assert budget == ([2 / 255, 10] if "acdc" in bundle else [4 / 255, 20]) + [[edge] * 3]
    assert list(parser.get_parsed_content("loss").weights.values()) == [1, 1, 1]
    attack = parser.get_parsed_content("attack")
    assert (attack.steps, attack.q_max) == (20, budget[1])
    assert attack == VAFA.preset("paper" if recipe == "vaft" else "authors", block_size=[edge] * 3, q_max=budget[1])


@every_bundle
@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        (["train"], "train"),
        (["train", "harden", "hardening/pgd"], "train"),
        (["train", "evaluate"], "train"),
        (["train", "evaluate", "attack"], "train"),
        (["inference"], "infer"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else value,
)
def test_properties_are_those_of_the_specification(bundle, chain, kind, dataset_dir, tiny):
    kwargs = {"meta_file": str(CONFIGS[bundle] / "metadata.json"), "logging_file": False, "init_id": "nothing"}
    small = {key: literal_eval(str(value)) for key, value in tiny[bundle.split("_")[1]].items()}
    kwargs |= {"dataset_dir": str(dataset_dir), "cache_rate": 0.0} | small
    workflow = ConfigWorkflow(config_file=files(bundle, chain), workflow_type=kind, **kwargs)
    workflow.initialize()
    assert workflow.check_properties() == []


@every_bundle
def test_metadata_fits_the_newest_schema(bundle, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_bytes((Path(__file__).parent / "meta_schema_20240725.json").read_bytes())
    verify_metadata(meta_file=str(CONFIGS[bundle] / "metadata.json"), filepath=str(schema))
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(read(bundle, "metadata") | {"authors": ["a", "list"]}))
    with pytest.raises(ValueError, match=r"not of type"):
        verify_metadata(meta_file=str(broken), filepath=str(schema))


@pytest.mark.parametrize(
    "bundle",
    [
        name if name == "hippocampus_unetr_segmentation" else pytest.param(name, marks=pytest.mark.slow)
        for name in BUNDLES
    ],
)
def test_network_takes_and_gives_what_the_metadata_says(bundle):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS[bundle] / "metadata.json"),
        config_file=str(CONFIGS[bundle] / "inference.json"),
        device="cpu",
    )


@every_bundle
def test_metadata_agrees_with_the_configs_and_has_its_version_in_the_changelog(bundle):
    metadata, train = read(bundle, "metadata"), read(bundle, "train")
    assert metadata["version"] in metadata["changelog"]
    image, pred = (
        metadata["network_data_format"]["inputs"]["image"],
        metadata["network_data_format"]["outputs"]["pred"],
    )
    assert image["spatial_shape"] == pred["spatial_shape"] == train["roi_size"]
    assert list(pred["channel_def"].values()) == train["classes"]
    assert pred["num_channels"] == train["num_classes"] == len(train["classes"])


@every_bundle
def test_bundle_has_the_files_of_the_zoo(bundle):
    folder = ROOT / bundle
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "models"):
        assert (folder / name).exists(), name
    listed = folder / "large_files.yml"
    assert bundle.startswith("mni152") or yaml.safe_load(listed.read_text())["large_files"] == []


@pytest.mark.parametrize("own", [False, True], ids=["command line", "MONAI Label"])
def test_training_resumes_unless_a_checkpoint_loader_stands_in_front(own, tmp_path, tiny, dataset_dir):
    """MONAI Label puts one there: each of its requests is a run of its own."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS["mni152_unetr_segmentation"] / "train.json"))
    parser.update({key: literal_eval(str(value)) for key, value in tiny["unetr"].items()})
    parser.update({"bundle_root": str(tmp_path), "dataset_dir": str(dataset_dir), "train#trainer#max_epochs": 7})
    if own:
        loader = {"_target_": "CheckpointLoader", "load_path": "models/model.pt", "load_dict": {"model": "$@network"}}
        parser["train"]["handlers"].insert(0, loader)
    parser.parse()
    training = parser.get_parsed_content("training")
    training.check()
    assert training.epochs == 7
    assert (tmp_path / "eval" / "resume" / "model" / "training.json").is_file() != own
    assert training.config["network_def"]["feature_size"] == tiny["unetr"]["network_def#feature_size"]
