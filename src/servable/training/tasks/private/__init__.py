"""Training with differential privacy: models that hardly tell of any one row that they learned from.

``tables`` trains linear models (``linear``) and forests (``forest``), ``pictures`` networks. All gradient
descent is in ``descent``, all noise of counts in ``noise``. Noise never comes from the seed: who knows the
seed could take it away.
"""
