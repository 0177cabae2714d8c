"""`python -m streams` is `callpulse`."""

from streams.cli import main

if __name__ == "__main__":
    main()
