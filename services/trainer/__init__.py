"""The trainer: runs of RLlib on Ray Tune, as Ray Jobs, tracked in MLflow and published as bundles.

A request reaches `api`, which has Ray run `job`: one run, from its start to its version. `algorithms` are RLlib's and
their settings, `environments` what they are trained in, and `export` compiles what was learnt to ONNX. `records` is
what MLflow holds, `cluster` is Ray as it is seen from outside.
"""
