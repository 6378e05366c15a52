"""`python -m mark.train ...` is `mark train ...`: what torchrun and `accelerate launch -m` start."""

from __future__ import annotations

import sys

from mark.cli import main

if __name__ == "__main__":
    sys.argv[:] = ["mark", "train", *sys.argv[1:]]
    main()
