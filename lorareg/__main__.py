"""``python -m lorareg``."""

from lorareg.cli.app import main

main()
