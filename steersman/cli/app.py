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
from steersman.cli.timeout import with_timeout

app = typer.Typer(
    help="Train policies, serve them, and know how good they are.",
    epilog="Start everything on this machine with [bold]make up[/bold]. Addresses are settings: see docs/settings.md.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(with_timeout(train.train))
app.add_typer(runs.app, name="runs")
app.command()(with_timeout(run_commands.resume))
app.command()(with_timeout(run_commands.logs))
app.command()(with_timeout(run_commands.tensorboard))
app.command()(deployments.deploy)  # whose own timeout is for what it waits for
app.command()(with_timeout(deployments.undeploy))
app.command()(with_timeout(deployments.policies))
app.add_typer(policy.app, name="policy")
app.command()(with_timeout(top.top))
app.command()(with_timeout(routes.route))
app.command()(with_timeout(routes.alias))
app.command()(with_timeout(routes.promote))
app.command()(with_timeout(routes.rollback))
app.command()(with_timeout(routes.audit))
app.command()(with_timeout(act.act))
app.command()(with_timeout(evaluate.evaluate))
app.command()(with_timeout(compare.compare))
app.command()(with_timeout(record.record))
app.command()(serve.serve)
app.command()(with_timeout(status.status))
