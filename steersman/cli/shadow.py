"""`steersman evaluate --shadow`: how a version does with copies of live requests."""

from __future__ import annotations

from steersman.cli.connection import configured, connect, events
from steersman.cli.output import plain, print_json, print_table, progress
from steersman.errors import InternalError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc


def evaluate_shadow(request: evaluator_pb2.EvaluateShadowRequest, *, as_json: bool) -> None:
    """Follows a shadow with a live view, and prints the result. Ctrl-C ends it.

    Raises:
        InternalError: If the evaluator ends without a report.
    """
    report: evaluator_pb2.ShadowReport | None = None
    with connect("evaluator", configured().evaluator_address) as channel, progress() as view:
        task = view.add_task(f"following the shadow of {request.policy}", total=request.compared or request.seconds)
        for event in events(evaluator_pb2_grpc.EvaluatorServiceStub(channel).EvaluateShadow(request)):
            report = event.report
            agreed = f", {100 * report.agreement:.1f}% agree" if report.compared else ""
            view.update(
                task,
                completed=report.compared if request.compared else report.seconds,
                description=f"{report.compared:,} requests compared{agreed}",
            )
    if report is None:
        raise InternalError("expected a report of the shadow, got none")
    if as_json:
        print_json(plain(report))
    else:
        _print(report)


def _print(report: evaluator_pb2.ShadowReport) -> None:
    rows: list[tuple[str, object]] = [
        ("serving", ", ".join(f"{report.policy}:{version}" for version in report.serving)),
        ("shadow", f"{report.policy}:{report.shadow}"),
        ("requests compared", f"{report.compared:,} in {report.seconds:.0f} s"),
    ]
    if report.HasField("agreement"):
        interval = report.agreement_interval
        rows.append(
            (
                "agreement",
                f"{100 * report.agreement:.2f}% (95% interval {100 * interval.low:.2f} to {100 * interval.high:.2f})",
            )
        )
    if report.HasField("mean_distance"):
        interval = report.distance_interval
        rows.append(
            ("mean distance", f"{report.mean_distance:.4g} (95% interval {interval.low:.4g} to {interval.high:.4g})")
        )
    print_table("Shadow", ("", ""), rows, "")
