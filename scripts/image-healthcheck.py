"""The image's health check: exits 0 where the gateway's /livez answers 200 in time, else 1."""

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4


def is_live(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_live(sys.argv[1]) else 1)
