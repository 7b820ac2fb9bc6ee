"""Compiled forms of trained models: made, proven equal, timed, chosen."""
