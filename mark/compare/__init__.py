"""One table over all evaluated entries, their paired differences, and the verdict."""

from mark.compare.comparison import CompareInputs, compare_entries
from mark.compare.results import write_comparison

__all__ = ["CompareInputs", "compare_entries", "write_comparison"]
