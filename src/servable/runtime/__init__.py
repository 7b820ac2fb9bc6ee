"""Where a loaded variant runs."""
