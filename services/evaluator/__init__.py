"""The evaluator: plays Gymnasium environments against what is being served, and says how good it is.

A request reaches `api`. In `play`, contestants play episodes, each of the `workers` its share; `judge` says what came
of it, and `film` shows episodes.
"""
