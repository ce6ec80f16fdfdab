"""Keeping the libraries' own bars and hints off the terminal, where ours are."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Show their errors only; transformers hints at torchvision, which is not needed here."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
