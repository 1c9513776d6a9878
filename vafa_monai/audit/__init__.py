"""The audit: checks that a robustness number must pass to be believed."""

from vafa_monai.audit.audited_model import (
    AttackOutcome,
    AuditCase,
    AuditedModel,
    Check,
    CheckResult,
    Measured,
    Status,
    mean_dice,
)
from vafa_monai.audit.engine import CHECKS, AuditRun, run_audit
from vafa_monai.audit.setting import AuditSettings

__all__ = [
    "CHECKS",
    "AttackOutcome",
    "AuditCase",
    "AuditRun",
    "AuditSettings",
    "AuditedModel",
    "Check",
    "CheckResult",
    "Measured",
    "Status",
    "mean_dice",
    "run_audit",
]
