"""`headrace webhooks` on the command line."""

from __future__ import annotations

import os
import sys

import click

from .options import as_json_option, lane_option, some_entries


@click.group()
def webhooks() -> None:
    """Webhooks that wait to be delivered or were given up, and the secrets that sign them."""


@webhooks.command("list")
@click.argument("model")
@lane_option
@click.option("--count", type=click.IntRange(1, 1000), default=50, show_default=True, help="Show the newest.")
@as_json_option
def list_webhooks(model: str, lane: str, count: int, as_json: bool) -> None:
    """Show how many webhooks of MODEL wait, and list the newest that were given up."""
    from .operate import webhooks as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.show_list(client, model, lane, count, as_json))


@webhooks.command("retry")
@some_entries
def retry_webhooks(model: str, entries: tuple[str, ...], lane: str, every: bool, yes: bool, as_json: bool) -> None:
    """Deliver webhooks of MODEL that were given up, with all attempts anew and under the same ids."""
    from .operate import webhooks as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.retry(client, model, lane, entries, every, yes, as_json))


@webhooks.command("drop")
@some_entries
def drop_webhooks(model: str, entries: tuple[str, ...], lane: str, every: bool, yes: bool, as_json: bool) -> None:
    """Delete webhooks of MODEL that were given up for good."""
    from .operate import webhooks as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.drop(client, model, lane, entries, every, yes, as_json))


@webhooks.command("secret")
@click.option("--lane", help="Instead of a new one, those of this lane, as HEADRACE_WEBHOOK_SECRETS gives them.")
def show_secret(lane: str | None) -> None:
    """Print a new secret for HEADRACE_WEBHOOK_SECRETS, which is stored nowhere, or what the receivers of a lane need.

    A lane's secrets follow from the setting; those of the lane `default` are the setting's own.
    """
    from shared.names import is_name
    from shared.settings import Settings, SettingsError
    from shared.webhook_secrets import key_of, secret_of

    if lane is None:
        click.echo(secret_of(os.urandom(32)))
        return
    try:
        secrets = Settings.from_env(os.environ).webhook_secrets
        if not is_name(lane):
            raise SettingsError("A lane has 1 to 64 letters, digits, '_' or '-'.")
        if secrets is None:
            raise SettingsError("HEADRACE_WEBHOOK_SECRETS is not set.")
    except SettingsError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(2)
    for secret in secrets:
        click.echo(secret_of(key_of(secret, lane)))
