"""How requests move from one version to another: who answers, what was seen, and what follows from it."""
