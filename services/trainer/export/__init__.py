"""The compiler from RLlib to ONNX: connectors, network, state and greedy action become one graph."""
