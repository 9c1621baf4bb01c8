"""What runs in Ray: a run from its start to its version, with its trials, its sweeps and the gate at its end."""
