"""What exists and what should be served: models, versions, packages and deployments of one home."""
