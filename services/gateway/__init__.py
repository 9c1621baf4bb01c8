"""The gateway: takes observations from clients, batches them, hands them to replicas and gives actions back.

A request's way through the modules, in order:

1. `policy_service` receives it and finds its policy in the `catalogue`;
2. `observations` checks it against what the policy takes;
3. `requests` is what it is while it waits: a request, cut into segments where it is larger than a batch;
4. `dispatcher` queues it, forms batches and gives them to free replicas;
5. `attachment` is one replica: what it can do, and the batches that it holds;
6. `replica_service` carries batches to replicas and results back.

All of it runs in one event loop: no module but the services awaits anything, and nothing needs a lock.
"""
