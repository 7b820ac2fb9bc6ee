"""Live models, kept as the registry wants them, and the one way in which a request is answered."""
