"""What a bundle of others says of itself, and what its first cases say: nothing is asked for that can be found."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigComponent, ConfigParser
from monai.bundle.utils import ID_SEP_KEY
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import Tensor, nn

from vafa_monai.data.case import CASE_NAME
from vafa_monai.data.files import file_name, read_json
from vafa_monai.inferers.output_adapter import tensors_of
from vafa_monai.losses.output import Output
from vafa_monai.runs.bundle_run import make_importable
from vafa_monai.runs.shipped import METADATA

__all__ = ["ForeignBundle", "flat", "foreign_config"]

CONFIGS = ("train.json", "train.yaml", "train.yml")
MEASURED = 3  # cases whose intensities are looked at
SLACK = 1e-3  # of the width of a range
SCALED = {  # transforms of intensities that say the range that they lead to, by the names of its ends
    "ScaleIntensityRanged": ("b_min", "b_max"),
    "ScaleIntensityRangePercentilesd": ("b_min", "b_max"),
    "ScaleIntensityd": ("minv", "maxv"),
}
INTENSITIES = ("Intensit", "Normalize", "Contrast")  # what the names of such transforms have
PATHS = {  # where the parts of an evaluation lie, as steps from its engine
    "data": ("val_data_loader", "dataset", "data"),
    "preprocessing": ("val_data_loader", "dataset", "transform"),
    "network": ("network",),
    "postprocessing": ("postprocessing",),
}


@dataclass(frozen=True)
class FirstCases:
    """What the first cases of a bundle say.

    Args:
        shape: ``(C, H, W, D)`` of the first image as the network gets it.
        low: lowest intensity.
        high: highest intensity.
        label_channels: channels of the labels.
        highest_label: their highest value.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    label_channels: int
    highest_label: float


@dataclass(frozen=True, kw_only=True)
class ForeignBundle:
    """A bundle of others: its config, where the parts of its evaluation lie in it, and what they lead to.

    The evaluation is ``validate#evaluator``, or the only object whose ``_target_`` ends with ``Evaluator``; its parts
    are found by what it refers to, whatever their ids are. Configs are code and are executed.

    Args:
        bundle: folder of the bundle, with ``configs/train.json`` or ``train.yaml``.
        overrides: ids of the bundle and their values, such as ``dataset_dir``.

    Raises:
        ValueError: if there is no such config or evaluation, or it lacks parts; all that are missing are named.
    """

    bundle: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def parser(self) -> ConfigParser:
        """Its parsed config, without arguments that the class of its network does not take."""
        make_importable(self.bundle)
        parser = ConfigParser(foreign_config(self.bundle))
        for name, value in {"bundle_root": str(self.bundle), **self.overrides}.items():
            if name not in parser:
                raise ValueError(f"override must be an id of configs/train, got {name!r}.")
            parser[name] = as_before(value, parser[name])
        parser.parse()
        for name in self.left_out:
            parser["network_def"].pop(name)
        parser.parse()
        return parser

    @property
    def config(self) -> dict[str, Any]:
        """The parsed config, as it is written."""
        return cast(dict[str, Any], self.parser.config)

    @cached_property
    def left_out(self) -> list[str]:
        """Arguments of its network that the class does not take here."""
        make_importable(self.bundle)
        definition = foreign_config(self.bundle).get("network_def", {})
        if not ConfigComponent.is_instantiable(definition):
            return []
        made = pydoc.locate(ConfigComponent(definition, "network_def").resolve_module_name())
        known = inspect.signature(made).parameters if callable(made) else {}
        if not known or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
            return []
        return [name for name in definition if not name.startswith("_") and name not in known]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What its metadata say, empty without them."""
        path = self.bundle / METADATA
        return read_json(path, "metadata.json") if path.is_file() else {}

    def engine(self, kind: str, usual: str) -> str | None:
        """Return the id of its only engine of a kind, by the end of its target, or nothing."""
        if usual in self.parser:
            return usual
        found = [path for path, target in targets(self.config) if target.endswith(kind)]
        return found[0] if len(found) == 1 else None

    @cached_property
    def places(self) -> dict[str, str]:
        """The config ids of the evaluation and of its parts."""
        engine = self.engine("Evaluator", "validate#evaluator")
        if engine is None:
            rule = "have one object in its configs/train whose _target_ ends with Evaluator"
            raise ValueError(f"bundle must {rule}, or validate#evaluator, got {str(self.bundle)!r}.")
        found = {name: self._place(engine, *steps) for name, steps in PATHS.items()}
        missing = [f"{name} ({'#'.join((engine, *PATHS[name]))})" for name, place in found.items() if place is None]
        if "iteration_update" in self.parser[engine]:
            rule = "run its network once a case"
            raise ValueError(f"bundle must {rule}, got an evaluator with an iteration_update, as for clicks.")
        if missing:
            raise ValueError(f"bundle must say each part of its evaluation, got no {', '.join(missing)}.")
        inferer = self._place(engine, "inferer")
        return {"evaluator": engine, **{name: str(one) for name, one in found.items()}, "inferer": inferer or ""}

    @cached_property
    def training(self) -> dict[str, str]:
        """The config ids of the trainer and of its parts, as far as there are any."""
        engine = self.engine("Trainer", "train#trainer")
        steps = {
            "data": ("train_data_loader", "dataset", "data"),
            "preprocessing": ("train_data_loader", "dataset", "transform"),
            "batch_size": ("train_data_loader", "batch_size"),
            "loss": ("loss_function",),
            "epochs": ("max_epochs",),
            "inferer": ("inferer",),
        }
        found = {name: self._place(engine, *path) for name, path in steps.items()} if engine else {}
        known = {name: place for name, place in found.items() if place is not None}
        return {**({"trainer": engine} if engine else {}), **known}

    def _place(self, first: str, *steps: str) -> str | None:
        """Return the id where steps from an id lead, through references; nothing if there is no such place."""
        place = first
        for step in steps:
            value = self.parser[place]
            if not isinstance(value, Mapping) or step not in value:
                return None
            place = f"{place}#{step}"
            while isinstance(reference := self.parser[place], str) and reference.startswith("@"):
                place = reference[1:].replace(ID_SEP_KEY, "#")
                if place not in self.parser:
                    return None
        return place

    @property
    def key_metric(self) -> dict[str, Any] | None:
        """The config of the metric that its evaluation is judged by, if it has one."""
        place = self._place(self.places["evaluator"], "key_val_metric")
        return None if place is None else deepcopy(self.parser[place])

    def part(self, name: str) -> Any:
        """Return the config of a part, as it is written."""
        return deepcopy(self.parser[self.places[name]])

    def made(self, name: str) -> Any:
        """Return what the config of a part makes."""
        return self.parser.get_parsed_content(self.places[name])

    @cached_property
    def cases(self) -> dict[str, list[dict[str, Any]]]:
        """Its cases by the parts of a datalist; those that it validates on are tested. Equal file names get others."""
        training = self.training.get("data", "train#dataset#data")
        found = {"test": self._listed(self.places["data"]), "training": self._listed(training)}
        if not found["test"]:
            where = {name: self.parser[name] for name in ("dataset_dir", *self.overrides) if name in self.parser}
            raise ValueError(f"bundle must find a case to validate on, got none with {where}.")
        wrong = [case for case in found["test"] if not {"image", "label"} <= case.keys()]
        if wrong:
            raise ValueError(f"cases must have an image and a label, got one of {sorted(wrong[0])}.")
        return {part: named(cases) for part, cases in found.items()}

    def _listed(self, place: str) -> list[dict[str, Any]]:
        if place not in self.parser:
            return []
        listed = self.parser.get_parsed_content(place)
        cases = [{str(key): absolute(value) for key, value in case.items()} for case in listed]
        return [with_image(case) for case in cases]

    @cached_property
    def measured(self) -> FirstCases:
        """What the first cases say, preprocessed."""
        preprocessing = self.made("preprocessing")
        images, labels = [], []
        for case in self.cases["test"][:MEASURED]:
            loaded = preprocessing({key: value for key, value in case.items() if key != CASE_NAME})
            images.append(torch.as_tensor(loaded["image"]))
            labels.append(torch.as_tensor(loaded["label"]))
        if images[0].ndim != 4:
            rule = "have volumes of three dimensions"
            raise ValueError(f"bundle must {rule}, got images of shape {tuple(images[0].shape)} after preprocessing.")
        low, high = min(float(one.min()) for one in images), max(float(one.max()) for one in images)
        highest = max(float(one.max()) for one in labels)
        return FirstCases(tuple(images[0].shape), low, high, len(labels[0]), highest)

    @cached_property
    def roi_size(self) -> list[int]:
        """The window of its inferer, or the volume."""
        inferer = self.made("inferer") if self.places["inferer"] else SimpleInferer()
        size, shape = getattr(inferer, "roi_size", None), self.measured.shape[1:]
        if size is None:
            return list(shape)
        sizes = [size] * 3 if isinstance(size, int) else list(size)
        return [one if one and one > 0 else edge for one, edge in zip(sizes, shape, strict=True)]

    @cached_property
    def logits(self) -> tuple[int, list[Any] | None]:
        """Channels of the logits, and where they lie in what the network returns; ``None`` if it returns them alone."""
        network = self.made("network")
        if not isinstance(network, nn.Module):
            raise ValueError(f"network must be a torch module, got {type(network).__name__}.")
        device = next((one.device for one in network.parameters()), torch.device("cpu"))
        with torch.no_grad():
            answer = network.eval()(torch.zeros(1, self.measured.shape[0], *self.roi_size, device=device))
        if isinstance(answer, Tensor):
            return answer.shape[1], None
        fitting = [
            (path, one) for path, one in tensors_of(answer) if one.ndim == 5 and [*one.shape[2:]] == self.roi_size
        ]
        if not fitting:
            raise ValueError(f"network must return logits of the size of its input, got {type(answer).__name__}.")
        path, found = fitting[0]  # heads of deep supervision follow the one that is deployed
        return found.shape[1], list(path)

    @cached_property
    def output(self) -> Output:
        """What its channels mean: its postprocessing asks each by itself, or there is one, or there are classes.

        Raises:
            ValueError: if the labels contradict it.
        """
        steps = [
            one for one in flat(self.made("postprocessing")) if type(one).__name__ in ("Activationsd", "AsDiscreted")
        ]
        asked = [told for one in steps for told in of_prediction(one)]
        alone = "softmax" not in asked and ("sigmoid" in asked or "threshold" in asked)
        channels, labels = self.logits[0], self.measured.label_channels
        kind = "sigmoid" if alone or channels == 1 else "softmax"
        wanted = 1 if kind == "softmax" else channels
        if labels != wanted and not self._are_indices(channels):
            rule = f"have {wanted} channel{'s' * (wanted != 1)} under a {kind} of {channels}"
            raise ValueError(f"labels must {rule}, got {labels} after preprocessing.")
        return Output(kind)

    def _are_indices(self, channels: int) -> bool:
        """Tell whether labels are the indices of channels."""
        return self.measured.label_channels == 1 and self.measured.highest_label < channels

    @property
    def one_hot(self) -> bool:
        """Whether each channel asks for one class of labels that are indices."""
        channels = self.logits[0]
        return self.output.is_sigmoid and channels > 1 and self.measured.label_channels == 1

    @property
    def named_channels(self) -> list[str]:
        """The names of the channels in its metadata, in their order."""
        outputs = self.metadata.get("network_data_format", {}).get("outputs", {})
        told = next((one.get("channel_def") for one in outputs.values() if isinstance(one, Mapping)), None) or {}
        return [str(told[key]) for key in sorted(told, key=int)]

    @cached_property
    def stated_range(self) -> tuple[list[float] | None, list[float] | None, str]:
        """The range that its last transform of intensities leads to, that before it, and the name of the transform."""
        several = [one for one in flat(self.made("preprocessing")) if scales(one)]
        name = type(several[-1]).__name__ if several else "no transform of intensities"
        scaler = getattr(several[-1], "scaler", None) if several else None
        ends: list[Any] = [getattr(scaler, end, None) for end in SCALED.get(name, ())]
        if not ends or None in ends or getattr(scaler, "clip", True) is not True:
            return None, None, f"{name}: the range of each case"
        before: list[Any] = [getattr(scaler, end, None) for end in ("a_min", "a_max")]
        return ends, None if None in before else before, name


def foreign_config(bundle: Path) -> dict[str, Any]:
    """Return the config of the training of any bundle, JSON or YAML, as it is written.

    Raises:
        ValueError: if there is none.
    """
    for name in CONFIGS:
        if (bundle / "configs" / name).is_file():
            return dict(ConfigParser.load_config_file(str(bundle / "configs" / name)))
    raise ValueError(f"bundle must be a folder with configs/train.json or train.yaml, got {str(bundle)!r}.")


def as_before(value: Any, before: Any) -> Any:
    """Return a folder with a slash at its end if the one in its place has it: configs add file names to it.

    Example:
        >>> as_before("mine", "/workspace/data/"), as_before("mine/", "/workspace/data"), as_before(3, "a/")
        ('mine/', 'mine/', 3)
    """
    both = isinstance(value, str) and isinstance(before, str)
    return f"{value}/" if both and before.endswith("/") and not value.endswith("/") else value


def targets(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the id and the ``_target_`` of every object of a config.

    Example:
        >>> list(targets({"a": [{"_target_": "UNet"}]}))
        [('a#0', 'UNet')]
    """
    if isinstance(config, Mapping) and isinstance(config.get("_target_"), str):
        yield path, config["_target_"]
    parts = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in parts:
        yield from targets(value, f"{path}#{key}" if path else str(key))


def absolute(value: Any) -> Any:
    """Return the whole path of a file that is there, or of several, and anything else as it is."""
    if isinstance(value, list):
        return [absolute(one) for one in value]
    return str(Path(value).resolve()) if isinstance(value, (str, Path)) and Path(value).is_file() else value


def of_prediction(transform: Any) -> list[str]:
    """Return what an ``Activationsd`` or ``AsDiscreted`` does to the prediction.

    Example:
        >>> from monai.transforms import AsDiscreted
        >>> of_prediction(AsDiscreted(["label", "pred"], threshold=[0.5, None], argmax=[False, True]))
        ['argmax']
    """
    places = [place for place, key in enumerate(transform.keys) if key == "pred"]
    told = {name: getattr(transform, name, ()) for name in ("softmax", "sigmoid", "argmax", "threshold")}
    return [
        name for name, values in told.items() if any(values[place] not in (None, False) for place in places if values)
    ]


def with_image(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case whose files its transforms join to an image, with these as the files of the image.

    Example:
        >>> with_image({"artery": "1/a.nii", "vein": "1/v.nii", "label": "1/l.nii"})["image"]
        ['1/a.nii', '1/v.nii']
    """
    files = [value for key, value in case.items() if key != "label" and isinstance(value, (str, Path))]
    return case if "image" in case or not files else {**case, "image": files}


def named(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return cases, each with a name where file names are not all different: the shortest ends of paths that are.

    Example:
        >>> [case["case_name"] for case in named([{"image": "a/1/t2.nii"}, {"image": "a/2/t2.nii"}])]
        ['1_t2', '2_t2']
    """
    paths = [Path(str(one[0] if isinstance(one := case["image"], (list, tuple)) else one)) for case in cases]
    if len({file_name(path) for path in paths}) == len(paths):
        return cases
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        names = ["_".join([*path.parts[-depth:-1], file_name(path)]) for path in paths]
        if len(set(names)) == len(names):
            return [{**case, CASE_NAME: name} for case, name in zip(cases, names, strict=True)]
    return cases  # the same file twice


def flat(transform: Any) -> Iterator[Any]:
    """Yield every transform of a composition, in its order.

    Example:
        >>> from monai.transforms import Compose, Flipd
        >>> [type(one).__name__ for one in flat(Compose([Compose([Flipd("image")]), Flipd("label")]))]
        ['Flipd', 'Flipd']
    """
    if not isinstance(transform, Compose):
        yield transform
        return
    for one in transform.transforms:
        yield from flat(one)


def scales(transform: Any) -> bool:
    """Tell whether a transform changes the intensities of the image."""
    of_image = "image" in getattr(transform, "keys", ())
    return of_image and any(word in type(transform).__name__ for word in INTENSITIES)
