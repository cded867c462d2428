"""`edge-agent`: one file per command, imported only when that command runs, so that `--help` and `try` start fast."""

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

#: Command -> (module, first line of help). The help is repeated here so that `--help` imports no command.
_COMMANDS: Final = {
    "run": ("edge_agent.cli.run", "Serve: answer messages from the broker until told to stop."),
    "try": ("edge_agent.cli.try_", "Run a model on the given input, without a broker."),
    "check": ("edge_agent.cli.check", "Check machine, models, broker and service; say how to fix problems."),
    "status": ("edge_agent.cli.status", "Show the running agent's state, counters and incomplete sensors."),
    "model": ("edge_agent.cli.model", "List, show, install and take back models."),
    "docs": ("edge_agent.cli.docs", "Describe the topics and payloads of a configuration (AsyncAPI)."),
    "watch": ("edge_agent.cli.watch", "Show live what the agents on a broker answer."),
    "demo": ("edge_agent.cli.demo", "Run a broker, the agent and simulated sensors for fifteen seconds."),
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
    """Make click's usage errors safe to print: they repeat the arguments unescaped."""
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
        # click's own completion would import every command for its help text.
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
    """Run scikit-learn models at the edge: features in over MQTT, labels out.

    Exit status: 0 success, 1 something was rejected or failed, 2 usage or configuration error, 3 model unusable.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; an error meant for the user becomes one line on stderr."""
    # paho imports dnspython, if present, for a function that we never call. Debian's dnspython imports httpx and rich:
    # 11 MiB in every agent, and seconds of start time on a small board.
    sys.modules.setdefault("dns", None)  # type: ignore[arg-type] # Python's own marker for "can't be imported"
    # pydantic scans all installed packages for plugins: slow, and we use none.
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes its buffer at exit
        sys.exit(1)
