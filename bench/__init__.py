"""Benchmarks: ratios from one run, medians of several. ``make bench`` writes ``bench/RESULTS.md``."""
