"""`python -m audit`: the command, for the processes that `simtrail serve` starts."""

from audit.command import main

if __name__ == "__main__":
    main(prog_name="simtrail")
