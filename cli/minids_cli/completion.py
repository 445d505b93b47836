"""Print a completion script: `minids completion bash >> ~/.bashrc`."""

from __future__ import annotations

import argparse

from minids_cli.main import COMMANDS

BASH = """_minids() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{words}" -- "$word"))
  else COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -F _minids minids"""
ZSH = "#compdef minids\n_arguments '1:command:({words})' '*:file:_files'\ncompdef _minids minids"
FISH = "complete -c minids -n __fish_use_subcommand -a '{words}'"


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids completion`."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(args: argparse.Namespace) -> int:
    """Print the script of one shell."""
    print({"bash": BASH, "zsh": ZSH, "fish": FISH}[args.shell].format(words=" ".join(COMMANDS)))
    return 0
