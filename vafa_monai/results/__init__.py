"""Documents that runs write and reports read: results, audits, and what they say of their origin."""

from vafa_monai.results.result import Result, load_results

__all__ = ["Result", "load_results"]
