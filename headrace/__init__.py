"""The command line that starts and inspects the whole: ``python -m headrace up``."""
