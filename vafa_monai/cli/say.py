"""What the commands print: the only file that prints."""

__all__ = ["say"]


def say(line: str) -> None:
    """Print a line at once, so that a log file shows how far a run is."""
    print(line, flush=True)
