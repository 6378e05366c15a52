"""`python -m mark` is the same as `mark`."""

from mark.cli import main

if __name__ == "__main__":
    main()
