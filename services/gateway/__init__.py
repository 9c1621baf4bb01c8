"""The gateway: takes observations from clients, batches them, hands them to replicas and gives actions back.

A request passes through the wings `serving`, `intake` and `dispatch`, leaves and comes back through `replicas`, and is
answered in `serving`. `requests` are the words that all of them share, `memory` is what episodes remember, `control`
keeps what is wanted, and `watching` shows what happens. docs/architecture.md follows a request module by module.

All of it runs in one event loop: no module but the services, the streams and the waiting room awaits anything, and
nothing needs a lock. `gateway` puts one process together, with a supervisor for its background tasks, and health says
if one cannot do its work; `workers` runs several processes.
"""
