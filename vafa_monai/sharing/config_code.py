"""What a bundle can execute: every value and file of it that is not known to be harmless, found without executing."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import monai
import torch
import yaml
from monai.bundle import ComponentLocator
from monai.bundle.reference_resolver import ReferenceResolver

import vafa_monai.attacks
import vafa_monai.handlers
import vafa_monai.inferers
import vafa_monai.losses
import vafa_monai.metrics
import vafa_monai.networks
import vafa_monai.transforms
from vafa_monai.data.files import parse_json
from vafa_monai.reports.table import visible
from vafa_monai.sharing.archive import folder_files

__all__ = ["EVALUATES", "Executable", "component_table", "executables"]

HARMLESS, FILES, CALLS = "", "reads or writes files", "calls"
PACKAGES = ("monai", "torch", "vafa_monai")  # which are imported already, and are never imported for a config
TRANSFORMS = """
    Activations AddCoordinateChannels AdjustContrast Affine ApplyPending AsChannelLast AsDiscrete BorderPad CastToType
    CenterScaleCrop CenterSpatialCrop ClassesToIndices ClipIntensityPercentiles Compose ConcatItems CopyItems Crop
    CropForeground CutMix CutOut DeleteItems DistanceTransformEDT DivisiblePad EnsureChannelFirst EnsureType
    FgBgToIndices FillHoles FlattenSubKeys Flip ForegroundMask FromMetaTensor GaussianSharpen GaussianSmooth GibbsNoise
    GridDistortion GridPatch GridSplit HistogramNormalize Identity IntensityStats Invert KSpaceSpikeNoise
    KeepLargestConnectedComponent LabelFilter LabelToContour LabelToMask MapLabelValue MaskIntensity MeanEnsemble
    MedianSmooth MixUp NormalizeIntensity OneOf Orientation Pad Rand2DElastic Rand3DElastic RandAdjustContrast
    RandAffine RandAxisFlip RandBiasField RandCoarseDropout RandCoarseShuffle RandCrop RandCropByLabelClasses
    RandCropByPosNegLabel RandFlip RandGaussianNoise RandGaussianSharpen RandGaussianSmooth RandGibbsNoise
    RandGridDistortion RandGridPatch
    RandHistogramShift RandIdentity RandKSpaceSpikeNoise RandRicianNoise RandRotate RandRotate90 RandScaleCrop
    RandScaleIntensity RandScaleIntensityFixedMean RandShiftIntensity RandSimulateLowResolution
    RandSmoothFieldAdjustContrast RandSmoothFieldAdjustIntensity RandSpatialCrop RandSpatialCropSamples
    RandStdShiftIntensity RandWeightedCrop RandZoom RandomOrder RemoveRepeatedChannel RemoveSmallObjects RepeatChannel
    Resample ResampleToMatch Resize ResizeWithPadOrCrop Rotate Rotate90 SavitzkyGolaySmooth ScaleIntensity
    ScaleIntensityFixedMean ScaleIntensityRange ScaleIntensityRangePercentiles SelectItems ShiftIntensity SobelGradients
    SomeOf Spacing SpatialCrop SpatialPad SpatialResample SplitDim SqueezeDim StdShiftIntensity ThresholdIntensity
    ToDevice ToMetaTensor ToNumpy ToTensor Transpose VoteEnsemble Zoom
"""  # and their faces for dictionaries, which end in d
NETWORKS = """
    AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUNetPlusPlus Classifier ControlNet Critic DAF3D DenseNet
    DiNTS DiffusionModelUNet Discriminator DynUNet FullyConnectedNet Generator GlobalNet HighResNet LocalNet
    MaskedAutoEncoderViT MedNeXt MultiScalePatchDiscriminator PatchDiscriminator RegUNet Regressor ResNet SENet SPADENet
    SegResNet SegResNetDS SegResNetDS2 SegResNetVAE SwinUNETR TopologyConstruction TopologyInstance TopologySearch UNETR
    UNet VISTA3D VNet VQVAE VarAutoEncoder ViT ViTAutoEnc VoxelMorph VoxelMorphUNet
"""
LOSSES = """
    AsymmetricUnifiedFocalLoss BarlowTwinsLoss BendingEnergyLoss ContrastiveLoss DeepSupervisionLoss DiceCELoss
    DiceFocalLoss DiceLoss FocalLoss GeneralizedDiceFocalLoss GeneralizedDiceLoss GeneralizedWassersteinDiceLoss
    GlobalMutualInformationLoss HausdorffDTLoss LocalNormalizedCrossCorrelationLoss LogHausdorffDTLoss MaskedDiceLoss
    MaskedLoss MultiScaleLoss PatchAdversarialLoss SSIMLoss SoftDiceclDiceLoss SoftclDiceLoss TverskyLoss
"""
METRICS = """
    AveragePrecisionMetric ConfusionMatrixMetric CumulativeAverage DiceHelper DiceMetric FBetaScore GeneralizedDiceScore
    HausdorffDistanceMetric LossMetric MAEMetric MSEMetric MeanIoU MultiScaleSSIMMetric PSNRMetric PanopticQualityMetric
    RMSEMetric ROCAUCMetric SSIMMetric SurfaceDiceMetric SurfaceDistanceMetric VarianceMetric
"""
HANDLERS = """
    AveragePrecision ConfusionMatrix DecollateBatch EarlyStopHandler GarbageCollector HausdorffDistance
    IgniteMetricHandler LrScheduleHandler MeanAbsoluteError MeanDice MeanIoUHandler MeanSquaredError MetricLogger
    PanopticQuality ParamSchedulerHandler PeakSignalToNoiseRatio PostProcessing ROCAUC RootMeanSquaredError StatsHandler
    SurfaceDistance ValidationHandler
"""
MONAI = {
    "networks.nets": NETWORKS,
    "losses": LOSSES,
    "metrics": METRICS,
    "handlers": HANDLERS,
    "engines": "AdversarialTrainer EnsembleEvaluator GanTrainer SupervisedEvaluator SupervisedTrainer",
    "inferers": "SimpleInferer SliceInferer SlidingWindowInferer SlidingWindowInfererAdapt SlidingWindowSplitter",
    "optimizers": "ExponentialLR LinearLR Novograd WarmupCosineSchedule",
    "data": """ArrayDataset CacheDataset DataLoader Dataset DistributedSampler DistributedWeightedRandomSampler
        SmartCacheDataset ThreadDataLoader ZipDataset""",
}
MONAI_FILES = {
    "transforms": "LoadImage LoadImaged SaveImage SaveImaged",
    "handlers": """CheckpointLoader CheckpointSaver ClassificationSaver LogfileHandler MetricsSaver
        TensorBoardStatsHandler""",
}
SAMPLERS = "BatchSampler DataLoader RandomSampler SequentialSampler SubsetRandomSampler WeightedRandomSampler"
OWN_HANDLERS = "AdversarialTrainingHandler AttackHandler RobustScore WeightAverage WeightPerturbation"  # and metrics
OWN_FILES = "AdversarialSaver PerceptualSimilarity ResumableTraining RobustnessReport"


def judge_target(target: str) -> str:
    """Tell what a ``_target_`` does when MONAI instantiates it.

    Nothing is imported or called: the target is looked for in what is imported already, the way MONAI finds it.

    Args:
        target: the text of ``_target_``.

    Returns:
        ``HARMLESS``, ``FILES``, or ``CALLS`` where it is none of those that are known.

    Example:
        >>> judge_target("monai.networks.nets.UNet"), judge_target("torch.os.system")
        ('', 'calls')
    """
    found = [_resolve(path) for path in _paths(target)]
    harmless, files = _known()
    if not found or not all(isinstance(one, (type, FunctionType, MethodType)) for one in found):
        return CALLS
    if all(one in harmless for one in found):
        return HARMLESS
    return FILES if all(one in harmless or one in files for one in found) else CALLS


def _paths(target: str) -> list[str]:
    """Return every full path that MONAI may take a target for."""
    modules = component_table().get_component_module_name(target)
    if modules is None:
        return [target]
    return [f"{module}.{target}" for module in ([modules] if isinstance(modules, str) else modules)]


@lru_cache(maxsize=1)
def component_table() -> ComponentLocator:
    """Return MONAI's table of names, made once."""
    return ComponentLocator()


def _resolve(path: str) -> Any:
    """Return the object at a dotted path, or nothing where it would take an import."""
    first, *others = path.split(".")
    found: Any = sys.modules.get(first) if first in PACKAGES else None
    for name in others:
        if isinstance(found, ModuleType):
            found = vars(found).get(name)
        else:
            found = getattr(found, name, None) if isinstance(found, type) else None
    return found


@lru_cache(maxsize=1)
def _known() -> tuple[frozenset[Any], frozenset[Any]]:
    """Return all objects that are harmless, and all that touch files and do nothing else."""
    twins = [name + end for name in TRANSFORMS.split() for end in ("", "d")]
    harmless: list[Any] = [*_of(monai.transforms, twins), *_of(torch.utils.data, SAMPLERS.split())]
    for module, names in MONAI.items():
        harmless += _of(_resolve(f"monai.{module}"), names.split())
    harmless += _of(torch.nn, torch.nn.modules.__all__)
    harmless += [torch.nn.parallel.DistributedDataParallel]
    harmless += _of(torch.optim, dir(torch.optim), torch.optim.Optimizer)
    harmless += _of(torch.optim.lr_scheduler, torch.optim.lr_scheduler.__all__)
    for own in ("attacks", "inferers", "losses", "metrics", "networks", "transforms"):
        package = _resolve(f"vafa_monai.{own}")
        harmless += _of(package, package.__all__)
    harmless += _of(vafa_monai.handlers, OWN_HANDLERS.split())
    harmless += _of(vafa_monai.handlers, vafa_monai.handlers.__all__, monai.handlers.IgniteMetricHandler)
    harmless += [vafa_monai.attacks.strength, vafa_monai.attacks.VAFA.preset, vafa_monai.networks.UNETRPP.preset]
    harmless += [vafa_monai.handlers.averaged_network]
    files = [one for module, names in MONAI_FILES.items() for one in _of(_resolve(f"monai.{module}"), names.split())]
    files += _of(vafa_monai.handlers, OWN_FILES.split())
    files += _of(vafa_monai.metrics, ["PerceptualSimilarityMetric"])
    return frozenset(harmless) - frozenset(files), frozenset(files)


def _of(module: Any, names: list[str], kind: type = object) -> Iterator[type]:
    """Yield the classes of a module that have these names."""
    found = (getattr(module, name, None) for name in names)
    return (one for one in found if isinstance(one, type) and issubclass(one, kind))


EVALUATES, IMPORTS, OUTSIDE = "evaluates", "imports", "takes a config from outside:"
UNREADABLE, UNKNOWN = "cannot be judged:", "is not known to be harmless"
CONFIGS = (".json", ".yaml", ".yml")  # in any case: what MONAI reads as a config
LOGGING = (".conf", ".ini", ".cfg")
INERT = (".md", ".txt", ".rst", ".csv", ".png", ".jpg", ".jpeg", ".gif")
NAMED_INERT = ("license", "notice", "authors", ".gitkeep", ".gitignore", ".gitattributes")
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".model", ".safetensors", ".npy", ".npz", ".nii", ".nii.gz", ".pth.tar")
PROGRAM_STARTS = (b"#!", b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
REFERENCES = "__local_refs"  # what MONAI writes for a reference, also where it stands in a text of an expression
RELATIVE = re.compile(r"[@%]::")
MACRO = re.compile(r"%(?P<file>.*\.(?:json|yaml|yml))(?:::.*)?", re.IGNORECASE | re.DOTALL)
MODES = ("default", "callable")
RESOLVED_TEXTS = {  # arguments whose text MONAI looks up as any callable, and calls
    "reader": ("ITKReader", "NibabelReader", "NrrdReader", "NumpyReader", "PILReader", "PydicomReader"),
    "writer": ("ITKWriter", "NibabelWriter", "PILWriter"),
}
ARITHMETIC: tuple[type[ast.AST], ...] = (
    ast.Constant,
    ast.Name,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.UnaryOp,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
)
ARITHMETIC += (ast.IfExp, ast.Subscript, ast.Load, ast.unaryop, ast.boolop, ast.cmpop)
ARITHMETIC += (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)  # no power: 9**9**9 never ends
LOGGING_NAMES = ("sys.stdout", "sys.stderr")
LOGGING_TEXTS = {"keys", "level", "handlers", "qualname", "propagate", "formatter", "format", "datefmt", "style"}
LONGEST_JSON, LONGEST_YAML = 2**24, 2**18  # bytes; a second each
SHOWN = 200


class Executable(NamedTuple):
    """One value of a config that runs code, or a file that may: its file, its id, its text, and what kind it is."""

    file: str
    id: str
    text: str
    kind: str

    def __str__(self) -> str:
        """Say it in one line, in which nothing can command a terminal."""
        text = self.text if len(self.text) <= SHOWN else f"{self.text[:SHOWN]}… ({len(self.text)} characters)"
        return visible(f"{self.file}{self.id and f' {self.id}'}: {self.kind}{text and f' {text}'}")


def executables(bundle: Path) -> list[Executable]:
    """Return every value in the configs of a bundle, and every file of it, that is not known to be harmless.

    Nothing is executed or imported here. Configs are all files that MONAI reads as such, wherever they are, because
    one can refer to another. A ``$`` expression counts as code unless it is arithmetic of literals and references; a
    ``_target_`` unless it is a constructor of a list; a logging file unless it names handlers of a list with literal
    arguments; any other file unless it is text, image or weights. In doubt it is named.

    Args:
        bundle: folder of the bundle.
    """
    files = folder_files(bundle)
    return [one for name, path in files.items() for one in _judge_file(name, path, files)]


def _judge_file(name: str, path: Path, files: dict[str, Path]) -> Iterator[Executable]:
    """Yield what one file can execute."""
    lower = name.lower()
    with path.open("rb") as file:
        start = file.read(8)
    if lower.endswith(CONFIGS):
        yield from _judge_config(name, path, files)
    elif lower.endswith(LOGGING):
        yield from (Executable(name, *one) for one in _judge_logging(path))
    elif start.startswith(PROGRAM_STARTS):
        yield Executable(name, "", "", "is a program")
    elif lower.endswith(INERT) and start.startswith(b"PK"):
        yield Executable(name, "", "", UNKNOWN)
    elif not lower.endswith((*INERT, *WEIGHTS)) and lower.rpartition("/")[2] not in NAMED_INERT:
        program = lower.endswith((".py", ".pyc", ".ts", ".so", ".sh"))  # .ts is TorchScript, which runs when called
        yield Executable(name, "", "", "is a program" if program else UNKNOWN)


def _judge_config(name: str, path: Path, files: dict[str, Path]) -> Iterator[Executable]:
    """Yield what one JSON or YAML file can execute."""
    size, is_json = path.stat().st_size, name.lower().endswith(".json")
    try:
        if size > (LONGEST_JSON if is_json else LONGEST_YAML):
            raise ValueError(f"it has {size} bytes")
        text = path.read_bytes().decode("utf-8-sig")
        content = parse_json(text, "config", name, object) if is_json else yaml.load(text, _Unique)
        yield from (Executable(name, *one) for one in _walk(content, "", files, set()))
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        yield Executable(name, "", (str(error).splitlines() or [type(error).__name__])[0], UNREADABLE)


class _Unique(yaml.SafeLoader):
    """YAML as MONAI reads it, but that a key which comes twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(set(map(repr, keys))) < len(keys):
            raise ValueError("a key stands twice")
        return super().construct_mapping(node, deep)


def _walk(value: Any, place: str, files: dict[str, Path], seen: set[int]) -> Iterator[tuple[str, str, str]]:
    """Yield id, text and kind of what a value executes; what YAML repeats is looked at once."""
    if isinstance(value, (dict, list)):
        if id(value) in seen:
            return
        seen.add(id(value))
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            inner = f"{place}#{key}" if place else str(key)
            special = _judge_key(str(key).replace("#", "::").rpartition("::")[2].lstrip("+"), item)
            if special is not None:
                yield from [(inner, str(item), special)] if special else []
            else:
                yield from _walk(item, inner, files, seen)
    elif isinstance(value, str):
        kind = _judge_text(value, place, files)
        if kind:
            yield place, value, kind


def _judge_key(key: str, value: Any) -> str | None:
    """Tell what a value does that MONAI treats in its own way by its key; nothing if the key is as any other."""
    if key == "_target_":
        return judge_target(value) if isinstance(value, str) and PLAIN.fullmatch(value) else CALLS
    if key == "_mode_":
        return HARMLESS if value in MODES else CALLS
    if key == "_debug_":
        return CALLS
    if key in RESOLVED_TEXTS and isinstance(value, (str, list)):
        return HARMLESS if value in RESOLVED_TEXTS[key] else CALLS
    return None


def _judge_text(text: str, place: str, files: dict[str, Path]) -> str:
    """Tell what a text executes as an expression, or leads to as a macro."""
    if text.startswith("$"):
        if _is_arithmetic(text[1:]):
            return HARMLESS
        return IMPORTS if text[1:].lstrip().startswith(("import", "from")) else EVALUATES
    text = ReferenceResolver.normalize_id(text)
    relative = text.startswith("%::")  # is completed by the keys around it
    macro = MACRO.fullmatch(ReferenceResolver.normalize_id(f"%{place}::") if relative else text)
    if macro is None or macro["file"] in files:  # which is judged itself
        return HARMLESS
    return OUTSIDE


def _is_arithmetic(expression: str) -> bool:
    """Tell whether an expression, as MONAI completes it, computes with literals and references and names nothing."""
    expression = ReferenceResolver.normalize_id(expression)
    if RELATIVE.search(expression):  # completed by keys, which may be any text
        return False
    for found in sorted(ReferenceResolver.id_matcher.findall(expression), key=len, reverse=True):
        expression = expression.replace(found, f"{REFERENCES}['{found[1:]}']")
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    looked_up = {id(node.value) for node in nodes if isinstance(node, ast.Subscript) and _is_literal_key(node)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    return all(node.id == REFERENCES and id(node) in looked_up for node in names) and all(
        isinstance(node, ARITHMETIC) for node in nodes
    )


def _is_literal_key(node: ast.Subscript) -> bool:
    return isinstance(node.slice, ast.Constant)


def _judge_logging(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield what a file for ``logging.config.fileConfig`` executes: it evaluates classes and arguments of handlers."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_bytes().decode("utf-8-sig"))
        values = [
            (f"{section}#{option}", option, parser.get(section, option).strip(), section)
            for section in parser.sections()
            for option in parser.options(section)
            if option not in LOGGING_TEXTS
        ]
    except (configparser.Error, ValueError) as error:
        yield "", f"({str(error).splitlines()[0]})", UNREADABLE
        return
    for place, option, text, section in values:
        if option == "class" and not _is_logging_class(text, section):
            yield place, text, CALLS
        elif option != "class" and not _is_literal(text):
            yield place, text, EVALUATES


def _is_logging_class(text: str, section: str) -> bool:
    """Tell whether this is a handler that writes to a stream or nowhere, or the formatter of the standard library."""
    if section.startswith("formatter_"):
        return text in ("logging.Formatter", "Formatter")
    return text in ("StreamHandler", "NullHandler", "logging.StreamHandler", "logging.NullHandler")


def _is_literal(text: str) -> bool:
    """Tell whether the arguments of a handler are literals and standard streams."""
    for name in LOGGING_NAMES:
        text = re.sub(rf"\b{re.escape(name)}\b", "None", text)
    try:
        ast.literal_eval(text or "()")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
