"""One verb a file: each composes the parts into what a person asks for.

The command line and ``import servable`` call the same functions. See ``docs/decisions/0002-workflows.md``.
"""
