"""Steersman's client SDK: ask a served policy for actions, over gRPC."""
