"""`python -m minids …` is the command `minids`; torchrun starts it so."""

from minids_cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
