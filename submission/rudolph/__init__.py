"""RUDOLPH in PyTorch: the model, its VQGAN and its tokenizer, questions in and answers out, and zero-shot uses.

A name is imported where it is first used: torch and `transformers` take a second each, and not every use needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer import Question as Question
    from .answer import Rudolph as Rudolph
    from .config import DecoderConfig as DecoderConfig
    from .likelihood import image_perplexity as image_perplexity
    from .likelihood import perplexity as perplexity
    from .modeling import RudolphConfig as RudolphConfig
    from .modeling import RudolphModel as RudolphModel
    from .sampling import Sampling as Sampling
    from .settings import Settings as Settings
    from .tokenizer import Tokenizer as Tokenizer
    from .vqgan import VQGAN as VQGAN
    from .zero_shot import INSTRUCTIONS as INSTRUCTIONS
    from .zero_shot import PRETRAINED as PRETRAINED
    from .zero_shot import Caption as Caption
    from .zero_shot import Inpainted as Inpainted
    from .zero_shot import Prompts as Prompts
    from .zero_shot import caption as caption
    from .zero_shot import classify as classify
    from .zero_shot import continue_text as continue_text
    from .zero_shot import inpaint as inpaint

_MODULES = {
    "answer": ("Question", "Rudolph"),
    "config": ("DecoderConfig",),
    "likelihood": ("image_perplexity", "perplexity"),
    "modeling": ("RudolphConfig", "RudolphModel"),
    "sampling": ("Sampling",),
    "settings": ("Settings",),
    "tokenizer": ("Tokenizer",),
    "vqgan": ("VQGAN",),
    "zero_shot": (
        "INSTRUCTIONS", "PRETRAINED", "Caption", "Inpainted", "Prompts", "caption", "classify", "continue_text",
        "inpaint",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
