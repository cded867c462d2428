"""`edge-agent`: one file a command, imported only when it is called, so that `--help` and `try` start fast."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError
from edge_agent.wording import plain

#: Command -> (module, first line of help). The help stands here so that listing the commands imports none of them.
_COMMANDS: Final = {
    "run": ("edge_agent.cli.run", "Serve: answer messages from the broker until told to stop."),
    "try": ("edge_agent.cli.try_", "Ask a model on the spot, without a broker."),
    "check": ("edge_agent.cli.check", "Check machine, models, broker, permissions and service, and say what to do."),
    "status": ("edge_agent.cli.status", "Ask the running agent how it does, and what it waits for."),
    "demo": ("edge_agent.cli.demo", "Show it all: a broker, the agent and sensors, for fifteen seconds."),
}
#: Objects that are made before the garbage collector looks at them: those of a start stay, those of a turn of the loop go by
#: themselves. What it is there for, references in a circle, is what errors leave behind.
_YOUNG: Final = 50_000
#: What click 8.2 and later raises to show the help.
_NO_ARGUMENTS: Final[tuple[type[Exception], ...]] = tuple(
    kind for kind in [getattr(click.exceptions, "NoArgsIsHelpError", None)] if kind
)


@contextlib.contextmanager
def _printable() -> Iterator[None]:
    """Make what click says of wrong arguments fit for a terminal: it repeats them as they are."""
    try:
        yield
    except click.UsageError as error:
        message = plain(error.format_message())
        if message == error.format_message() or isinstance(error, _NO_ARGUMENTS):
            raise
        raise click.UsageError(message, error.ctx) from None


class _Lazy(click.Group):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _printable():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _printable():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would import every command for its help.
        names = [
            CompletionItem(name, help=help_) for name, (_, help_) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-agent")
def cli() -> None:
    """Run a trained tree at the edge: features in over MQTT, labels out.

    Exit status: 0 well, 1 something was rejected or failed, 2 usage or configuration, 3 model unusable.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; an error a user can meet becomes one line on stderr."""
    # paho looks for dnspython, for a function that we never call. Where Debian has it, it brings httpx and rich along: 11 MiB
    # in every agent, and seconds of a small board's start.
    sys.modules.setdefault("dns", None)  # type: ignore[arg-type] # what Python itself has for "there is none"
    # pydantic looks for plugins in all that is installed, which takes its time and brings nothing that we want.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    try:
        return cli.main(args=arguments, prog_name="edge-agent")
    except EdgeAgentError as error:
        click.echo(f"edge-agent: {plain(str(error))}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        click.echo(f"edge-agent: standard output: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is buffered yet: Python writes it at the end
        sys.exit(1)
