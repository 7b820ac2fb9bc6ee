"""Packages at rest: their records, their files, and what loading them would execute."""
