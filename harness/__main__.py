"""``python -m harness``: the ``harness`` command, where it stands on no path."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
