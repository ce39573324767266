"""The answer for people: a page, and a paper's appendix. `sections` says it in words, the templates lay it out."""

from memexp.analysis.report.page import write_markdown as write_markdown
from memexp.analysis.report.page import write_report as write_report
