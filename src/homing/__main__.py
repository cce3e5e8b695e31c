"""`python -m homing` is `homing`."""

from homing.cli import main

if __name__ == "__main__":
    main(prog_name="homing")
