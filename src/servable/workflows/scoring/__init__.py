"""The parts of ``score``: pieces of a file, answers to them, what is written, and what is remembered."""
