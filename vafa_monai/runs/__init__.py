"""Work done once: runs of bundles, benchmarks, audits, studies and the demo."""

from vafa_monai.runs.audit import AuditProgress, BundleAudit
from vafa_monai.runs.benchmark import Benchmark
from vafa_monai.runs.bundle_model import BundleModel
from vafa_monai.runs.bundle_run import BundleRun
from vafa_monai.runs.demo import Demo, DemoSettings
from vafa_monai.runs.shipped import copy_bundle, shipped_bundle
from vafa_monai.runs.study import Study
from vafa_monai.runs.work import WorkOutcome

__all__ = [
    "AuditProgress",
    "Benchmark",
    "BundleAudit",
    "BundleModel",
    "BundleRun",
    "Demo",
    "DemoSettings",
    "Study",
    "WorkOutcome",
    "copy_bundle",
    "shipped_bundle",
]
