"""Compliance: the rules of Steersman's own API and of the Open Inference Protocol, one test each.

Against any server: `pytest tests/compliance --target host:port`. docs/compliance.md says more.
"""
