"""Which ``_target_`` of a config only builds an object: the object that it is, compared with a list of known ones.

Everything else counts as a call of anything. On the list is what was read: its constructor computes, and neither runs
what a text names, nor downloads, nor touches a file, whatever its arguments are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

import monai
import torch
from monai.bundle import ComponentLocator

import vafa_monai.attacks
import vafa_monai.handlers
import vafa_monai.inferers
import vafa_monai.losses
import vafa_monai.metrics
import vafa_monai.networks
import vafa_monai.transforms

__all__ = ["CALLS", "FILES", "HARMLESS", "component_table", "judge_target"]

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
OWN_HANDLERS = "AdversarialTrainingHandler AttackHandler HausdorffDistance95 NormalizedSurfaceDice OrganPresence"
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
    harmless += [vafa_monai.attacks.strength, vafa_monai.attacks.VAFA.preset, vafa_monai.networks.UNETRPP.preset]
    files = [one for module, names in MONAI_FILES.items() for one in _of(_resolve(f"monai.{module}"), names.split())]
    files += _of(vafa_monai.handlers, OWN_FILES.split())
    files += _of(vafa_monai.metrics, ["PerceptualSimilarityMetric"])
    return frozenset(harmless) - frozenset(files), frozenset(files)


def _of(module: Any, names: list[str], kind: type = object) -> Iterator[type]:
    """Yield the classes of a module that have these names."""
    found = (getattr(module, name, None) for name in names)
    return (one for one in found if isinstance(one, type) and issubclass(one, kind))
