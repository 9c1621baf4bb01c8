"""The policy: replicas that load bundles, attach to every gateway and compute batches.

`replica` is the core and knows nothing of Ray: it attaches, takes batches, runs the bundle, answers, leaves.
`deployment` wraps it for Ray Serve, which places, heals and updates replicas, as many as `autoscaling` decides from
what they report of their `load`.
"""
