"""Reports of robustness: results to tables, sentences, figures and one HTML page."""

from vafa_monai.reports.chart import dice_chart
from vafa_monai.reports.figure import attack_figure
from vafa_monai.reports.html import build_report
from vafa_monai.reports.paper_table import PaperTable, write_paper_table
from vafa_monai.reports.result import Result, load_results

__all__ = [
    "PaperTable",
    "Result",
    "attack_figure",
    "build_report",
    "dice_chart",
    "load_results",
    "write_paper_table",
]
