"""Reports of robustness: results to tables, sentences, figures and one HTML page."""

from vafa_monai.reports.build import build_report
from vafa_monai.reports.chart import dice_chart
from vafa_monai.reports.figure import attack_figure

__all__ = ["attack_figure", "build_report", "dice_chart"]
