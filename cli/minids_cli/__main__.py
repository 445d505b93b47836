"""`python -m minids_cli`, also under torchrun."""

from minids_cli.main import main

raise SystemExit(main())
