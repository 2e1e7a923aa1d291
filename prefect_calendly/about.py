"""Version and documentation of this package: the one place for both."""

from typing import Final

__version__ = "0.1.0"
DOCUMENTATION_URL: Final = "https://prefect-calendly.readthedocs.io"
