"""Who may do what: scopes, keys and callers. Pure but for the randomness of new keys."""
