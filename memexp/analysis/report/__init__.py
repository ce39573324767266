"""The answer as an HTML page and as a Markdown appendix. `sections` makes the texts, the templates lay them out."""

from memexp.analysis.report.page import write_markdown as write_markdown
from memexp.analysis.report.page import write_report as write_report
