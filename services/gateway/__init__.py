"""The gateway: takes observations from clients, batches them, hands them to replicas and gives actions back.

A request's way through the modules, in order:

1. `policy_service` receives it, as a call of its own or, in `act_stream`, as one message of many;
2. `intake` makes a request of it: it finds the policy in the `catalogue`, checks the `observations` and the `options`,
   and for a policy with memory finds the state in `memory` (`carried_state` by the client, or kept in `sessions`);
   while the policy has no replica, the request waits in the `waiting_room` before that;
3. `admission` sees whether there is room, and the `request_queue` holds it;
4. `dispatcher` forms batches and gives them to free replicas; `requests` and `batch` are what it deals in;
5. `attachment` is one replica: what it can do, and the batches that it holds;
6. `replica_service` carries batches to replicas and results back;
7. `responses` writes the answer.

`inference` does the same for clients of the Open Inference Protocol. What both share is in `unary`, for calls of one
request, and in `message_stream`.

All of it runs in one event loop: no module but the services, the stream and the waiting room awaits anything, and
nothing needs a lock. Beside it, `control` keeps what is wanted in the database: `deployments` carries out what is asked
for, and the `reconciler` tells Ray Serve, through the adapter `ray_serve`. `gateway` puts one process together, with a
supervisor for its background tasks, and health says if one cannot do its work; `workers` runs several.
"""
