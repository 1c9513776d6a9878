"""Bundle runs in this process, the chains of them (demo, the paper's tables), and the conversion of checkpoints."""

from vafa_monai.workflows.audit import BundleAudit
from vafa_monai.workflows.audit_teller import AuditTeller
from vafa_monai.workflows.benchmark import Benchmark, BenchmarkOutcome
from vafa_monai.workflows.bundle_run import BundleRun
from vafa_monai.workflows.convert import Conversion, build_bundle_network, convert_checkpoint
from vafa_monai.workflows.demo import Demo, DemoSettings
from vafa_monai.workflows.fetch import fetch_bundle
from vafa_monai.workflows.package import Package
from vafa_monai.workflows.paper_run import ReproductionSettings
from vafa_monai.workflows.reproduce import Reproduction
from vafa_monai.workflows.shipped import copy_bundle, shipped_bundle

__all__ = [
    "AuditTeller",
    "Benchmark",
    "BenchmarkOutcome",
    "BundleAudit",
    "BundleRun",
    "Conversion",
    "Demo",
    "DemoSettings",
    "Package",
    "Reproduction",
    "ReproductionSettings",
    "build_bundle_network",
    "convert_checkpoint",
    "copy_bundle",
    "fetch_bundle",
    "shipped_bundle",
]
