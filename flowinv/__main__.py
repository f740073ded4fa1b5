"""`python -m flowinv`: the command line, where no script is on the path."""

from flowinv.cli import main

if __name__ == "__main__":
    main()
