"""Who takes part in ``glass-bench run`` and ``scaling``: PyTorch, the naive way, bundles."""
