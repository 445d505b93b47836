"""The table of commands, and the one place where errors become a line and an exit code.

A command file has `add(parser)`, which declares its flags, and `run(args) -> int`, which imports
the library, calls it and shows the result. Only the chosen file is imported, so `--help` needs
neither torch nor rich.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
from typing import NoReturn

from minids import __version__
from minids.errors import UserError

COMMANDS = {
    "train": "train a model, live on screen",
    "sample": "complete a prompt with a trained model",
    "chat": "complete what you type, line by line",
    "serve": "a page to talk to a model, and OpenAI's interface for programs",
    "sft": "tune a run on questions and answers, or pre-train on reasoning text",
    "rl": "reinforcement learning from verified rewards: GRPO and its family",
    "distill": "a smaller student from a teacher's text, logits or opinion; or against RL",
    "r1": "R1's road in small: base, R1-Zero, cold start, RL, rejection sampling, RL, student",
    "eval": "held-out bits per byte against the exact floor; does a story keep its facts",
    "report": "write or rewrite the report of a run",
    "export": "write a run in the Hugging Face layout",
    "import": "read a Hugging Face folder into a run",
    "inspect": "count parameters, FLOPs and bytes of a preset, run or folder",
    "plan": "memory, time, traffic and dollars of a run before it starts",
    "cost": "what training and serving cost: published bills, open systems side by side",
    "claims": "popular claims about DeepSeek against sources and arithmetic",
    "ablate": "one mechanism taken out, over seeds: what the data supports",
    "bench": "measure speed side by side with a peer",
    "config": "list, show and compare configurations",
    "data": "list, show and prepare data",
    "lab": "open the course in JupyterLab",
    "lessons": "the course: list, open, check, hints, catch-up, release",
    "grade": "grade the workbooks of a class",
    "doctor": "what this machine is and what it can run",
    "completion": "print a shell completion script",
}
FILES = {"import": "import_"}  # a keyword cannot name a module
EXIT_CODES = """exit codes: 0 done · 1 failed while running · 2 bad usage, config or data, nothing
written · 3 stopped by a numeric guard · 4 checkpoint unusable · 130/143 interrupted, saved"""


class Parser(argparse.ArgumentParser):
    """argparse with our kind of error: one line, the nearest word as a hint."""

    def error(self, message: str) -> NoReturn:
        where, hint, allowed = self.prog, "", ""
        words = [a for a in message.replace("'", " ").split() if a.startswith("--")]
        if "unrecognized arguments" in message:
            unknown = words[0] if words else message.rsplit(maxsplit=1)[-1]
            flag = unknown.split("=")[0]
            near = difflib.get_close_matches(flag, [*self._option_string_actions, *COMMANDS], 1)
            where, message = flag, "unknown argument"
            hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists them"
        elif "invalid choice" in message:
            found, _, rest = message.partition("invalid choice: ")
            where = found.removeprefix("argument ").strip(": ") or "command"
            value, _, choices = rest.partition(" (choose from ")
            options = choices.rstrip(")").replace("'", "").split(", ")
            near = difflib.get_close_matches(value.strip("'"), options, 1)
            message, allowed = f"{value} is unknown", ", ".join(options)
            hint = f"did you mean {near[0]}?" if near else ""
        elif message.startswith("argument "):
            where, _, message = message.removeprefix("argument ").partition(": ")
        elif "required" in message:
            hint = f"{self.prog} --help shows what it takes"
        raise UserError(where, message, allowed, hint=hint)


def parser_of(command: str) -> Parser:
    """The parser of one command, its file imported."""
    module = importlib.import_module(f"minids_cli.{FILES.get(command, command)}")
    parser = Parser(
        prog=f"minids {command}",
        description=module.__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable lines on stdout")
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback when something fails"
    )
    parser.set_defaults(run=module.run)
    return parser


def overview() -> str:
    """What `minids --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"minids {__version__}: build DeepSeek from scratch, on the machine in front of you",
            "",
            "usage: minids COMMAND [flags]        minids COMMAND --help shows the flags",
            "",
            *lines,
            "",
            "begin with: minids train --tiny",
            "",
            EXIT_CODES,
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command → its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    try:
        return dispatch(argv)
    except UserError as error:
        if "--debug" in argv:
            raise
        return report(error, as_json="--json" in argv)
    except KeyboardInterrupt:
        print("minids: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        if "--debug" in argv:
            raise
        what = "ran out; what was saved before is whole"
        return report(UserError("memory", what, code=1), as_json="--json" in argv)
    except Exception as error:
        if "--debug" in argv:
            raise
        what = f"{type(error).__name__}: {error}"
        hint = "--debug shows where; please report it"
        return report(UserError(argv[0], what, hint=hint, code=1), as_json="--json" in argv)


def dispatch(argv: list[str]) -> int:
    """Find the command, parse its flags, run it."""
    command = argv[0]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "minids --help explains them"
        raise UserError("command", f"{command!r} is unknown", ", ".join(COMMANDS), hint=hint)
    args = parser_of(command).parse_args(argv[1:])
    return args.run(args)


def report(error: UserError, *, as_json: bool) -> int:
    """The error on one line of stderr; with --json as an object on stdout too.

    Of several ranks that fail, one says it.
    """
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        from minids_cli.ranks import speaks

        if not speaks():
            return error.code
    if as_json:
        fields = {"field": error.where, "message": error.what, "allowed": error.allowed}
        print(json.dumps({"error": fields | ({"hint": error.hint} if error.hint else {})}))
    line = error.line()
    print(f"minids: error: {line if len(line) <= 1000 else line[:997] + '…'}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.code
