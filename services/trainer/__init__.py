"""The trainer: runs of RLlib on Ray Tune, as Ray Jobs, tracked in MLflow and published as bundles."""
