"""The paper's tables and figure, measured again."""

from vafa_monai.paper.reproduce import Reproduction
from vafa_monai.paper.run import ReproductionSettings
from vafa_monai.paper.table import PaperTable, write_paper_table

__all__ = ["PaperTable", "Reproduction", "ReproductionSettings", "write_paper_table"]
