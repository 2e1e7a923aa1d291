"""A Prefect server on this machine that no web page can use: its settings, and links into its UI.

A browser sends requests to this machine for any page, opens websockets for it, and hands it the answers once the page's
domain has become a name of 127.0.0.1 (DNS rebinding). So this server wants a password. Nobody has to type it: a page
beside the UI takes it from the part of a link that is not sent, and puts it where the UI looks for it, which no page of
another origin can read.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_SIGN_IN: Final = Path(__file__).with_name("sign-in.html")
_USER: Final = "admin"  # also in that page


def server_settings(port: int, password: str) -> dict[str, str]:
    """Return the settings of the server, and of its clients.

    Args:
        port: Where it listens, on 127.0.0.1 only.
        password: Letters and digits.

    Example:
        >>> server_settings(4200, "secret")["PREFECT_API_AUTH_STRING"]
        'admin:secret'
    """
    origin = f"http://127.0.0.1:{port}"
    return {
        "PREFECT_API_URL": f"{origin}/api",
        "PREFECT_API_AUTH_STRING": f"{_USER}:{password}",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),  # not as an option, which the UI would not know
        "PREFECT_SERVER_API_AUTH_STRING": f"{_USER}:{password}",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": origin,
        "PREFECT_SERVER_UI_API_URL": f"{origin}/api",
    }


def add_sign_in_page(folder: Path) -> None:
    """Put the page that `ui_link` leads to beside the UI, once the server answers: it has made the folder anew.

    Args:
        folder: `PREFECT_SERVER_UI_STATIC_DIRECTORY` of the server.
    """
    shutil.copy(_SIGN_IN, folder / "v2")


def ui_link(port: int, password: str, path: str) -> str:
    """Return a link to a page of the UI that brings the password along.

    Args:
        port: Of the server.
        password: Its password.
        path: The page, such as `/deployments`.
    """
    return f"http://127.0.0.1:{port}/v2/{_SIGN_IN.name}#{password}{path}"
