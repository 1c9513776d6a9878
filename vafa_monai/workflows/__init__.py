"""Bundle runs in this process, and the demo that is a chain of them."""

from vafa_monai.workflows.bundle_run import BundleRun, shipped_bundle
from vafa_monai.workflows.demo import Demo, DemoSettings

__all__ = ["BundleRun", "Demo", "DemoSettings", "shipped_bundle"]
