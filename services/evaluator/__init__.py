"""The evaluator: plays Gymnasium environments against what is being served, and says how good it is."""
