"""Start `tailrace`, or `python -m gateway`.

A client's command does not import the servers' packages, which takes a while. Not here: all other commands (cli.py).
"""

import argparse
import sys

from gateway.client.arguments import COMMANDS, add_commands
from gateway.client.commands import run


def main() -> int:
    """Run the command of this process and return its exit status."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        parser = argparse.ArgumentParser(prog="tailrace")
        add_commands(parser.add_subparsers(dest="command"))
        return run(parser.parse_args())
    from gateway import cli  # noqa: PLC0415

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
