"""Runs one seed and prints its trace: `python -m tests.faults.simulation SEED`."""

import sys

from .simulation import simulate

if __name__ == "__main__":
    outcome = simulate(int(sys.argv[1]))
    print(*outcome.trace, sep="\n")
    print(outcome.digest)
