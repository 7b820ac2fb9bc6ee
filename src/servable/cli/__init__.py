"""The command ``servable``: one file per group of verbs, thin over the workflows."""
