"""Who is compared by run, engines and pipeline: PyTorch, the naive way, bundles."""
