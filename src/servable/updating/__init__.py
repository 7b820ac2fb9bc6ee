"""The loop: a model's next version from its recipe and from labelled traffic, behind a gate."""
