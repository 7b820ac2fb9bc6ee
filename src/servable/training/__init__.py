"""From rows to a trained, evaluated model and its report. Knows nothing of packages or registries."""
