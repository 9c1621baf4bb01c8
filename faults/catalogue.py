"""The faults. Each is made, and over when the system is as healthy as before; the load goes on all the while."""

from __future__ import annotations

from faults.fault import Fault
from faults.kinds import clients, processes, surroundings, versions

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("replica-killed", "one of two replicas gets SIGKILL", processes.kill_replica),
        Fault("replica-hung", "one of two replicas gets SIGSTOP", processes.stop_replica),
        Fault(
            "serve-controller-killed",
            "Ray Serve's controller gets SIGKILL, then a replica",
            processes.kill_serve_controller,
        ),
        Fault(
            "gateway-terminated",
            "one of two gateway processes gets SIGTERM",
            processes.terminate_gateway_worker,
            breaks_connections=True,
        ),
        Fault(
            "gateway-killed",
            "one of two gateway processes gets SIGKILL",
            processes.kill_gateway_worker,
            breaks_connections=True,
        ),
        Fault(
            "ray-head-killed",
            "every process of the Ray head gets SIGKILL, replicas included",
            processes.kill_ray_head,
            timeout=60.0,
            hasty_timeout=1.0,
            longest_gap=45.0,
        ),
        Fault("database-locked", "somebody holds the database for 10 s", surroundings.lock_database),
        Fault("mlflow-down", "MLflow is stopped while versions are swapped", surroundings.stop_mlflow),
        Fault(
            "dashboard-answers-html",
            "Ray's dashboard answers 200 and HTML while a version is asked for",
            surroundings.answer_html,
        ),
        Fault(
            "ray-serve-shared",
            "somebody else's application comes, is used while versions are swapped, and goes",
            surroundings.share_ray_serve,
        ),
        Fault("version-fails-to-load", "a version is deployed that is no model", versions.deploy_unloadable),
        Fault(
            "version-crashes-on-load",
            "a version is deployed that ends the process it is loaded in",
            versions.deploy_fatal,
        ),
        Fault(
            "version-fails-on-first-batch",
            "a version is deployed that fails on real observations",
            versions.deploy_failing,
        ),
        Fault(
            "version-gains-memory",
            "a version with memory is deployed, then gets a tenth of the traffic, and goes",
            versions.gain_memory,
        ),
        Fault("connections-grow-old", "every connection is replaced, since their age is limited", clients.grow_old),
        Fault("clients-vanish", "200 clients get SIGKILL in the middle of their streams", clients.vanish),
        Fault("large-requests", "300 requests of 780 KiB come at once for another policy", clients.ask_for_much),
        Fault("hostile-requests", "clients send what no honest one sends", clients.send_what_is_refused),
    )
}
