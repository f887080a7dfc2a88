"""`python -m viewstamp`: the same as the `viewstamp` command."""

from viewstamp.cli import main

if __name__ == "__main__":
    main(prog_name="viewstamp")
