"""One verb a file: each composes training, optimising, packaging and the registry into what a person asks for.

The command line and ``import servable`` call the same functions. See ``docs/decisions/0002-workflows.md``.
"""
