"""The review page of ``lorareg data caption --review``."""

from __future__ import annotations

import os
import sys
import webbrowser

from lorareg.cli.root import err
from lorareg.trainers.data.review.server import ReviewServer
from lorareg.trainers.data.review.state import Review, Summary
from lorareg.trainers.data.target import Target


def open_page(target: Target) -> Summary:
    """Serve the review page on a free port, and open it where there is a display, until Ctrl-C.

    Raises:
        LoraregError: there is nothing to review, or a file is broken.
    """
    review = Review.open(target)
    with ReviewServer(review, 0) as server:
        try:
            _announce(target, server)
            if _has_display():
                webbrowser.open(server.once)
            server.serve_forever()
        except KeyboardInterrupt:
            err.print()  # after the terminal's ^C
    done = review.summary()
    err.print(f"reviewed {done.reviewed}, edited {done.edited}, left {done.left}", markup=False)
    return done


def _announce(target: Target, server: ReviewServer) -> None:
    err.print(f"Review the captions of {target.name} at", markup=False)
    err.print(f"  {server.url}", markup=False)
    if "SSH_CONNECTION" in os.environ:
        forward = f"ssh -L {server.server_port}:127.0.0.1:{server.server_port}"
        err.print(f"From another machine, first: {forward} and the name of this one.", markup=False)
    err.print("Whoever has this address can change captions. Ctrl-C ends the review.")


def _has_display() -> bool:
    """Whether a window can open: without one, webbrowser would start a text browser in here."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
