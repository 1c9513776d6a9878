"""The audit: checks that a robustness number must pass to be believed."""

from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.engine import CHECKS, AuditRun, run_audit
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.audit.subject import AuditCase, AuditSubject, Measured, Outcome, mean_dice

__all__ = [
    "CHECKS",
    "AuditCase",
    "AuditRun",
    "AuditSettings",
    "AuditSubject",
    "Check",
    "Finding",
    "Measured",
    "Outcome",
    "Status",
    "mean_dice",
    "run_audit",
]
