"""Attacks on the privacy of a model that is served, by whoever may ask it: what they find is measured."""
