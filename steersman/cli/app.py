"""All commands, put together."""

from __future__ import annotations

import typer

from steersman.cli import (
    act,
    compare,
    deployments,
    evaluate,
    policy,
    record,
    routes,
    run_commands,
    runs,
    serve,
    status,
    top,
    train,
)

app = typer.Typer(
    help="Train policies, serve them, and know how good they are.",
    epilog="Start everything on this machine with [bold]make up[/bold]. Addresses are settings: see docs/settings.md.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train.train)
app.add_typer(runs.app, name="runs")
app.command()(run_commands.resume)
app.command()(run_commands.logs)
app.command()(run_commands.tensorboard)
app.command()(deployments.deploy)
app.command()(deployments.undeploy)
app.command()(deployments.policies)
app.add_typer(policy.app, name="policy")
app.command()(top.top)
app.command()(routes.route)
app.command()(routes.alias)
app.command()(routes.promote)
app.command()(routes.rollback)
app.command()(routes.audit)
app.command()(act.act)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(record.record)
app.command()(serve.serve)
app.command()(status.status)
