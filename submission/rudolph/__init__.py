"""RUDOLPH in PyTorch: the model, its VQGAN and its tokenizer, questions in and answers out, and zero-shot uses."""

from .answer import Question, Rudolph
from .config import RudolphConfig
from .modeling import RudolphModel
from .perplexity import image_perplexity, perplexity
from .sampling import Sampling
from .settings import Settings
from .tokenizer import Tokenizer
from .vqgan import VQGAN
from .zero_shot import (
    INSTRUCTIONS,
    PRETRAINED,
    Caption,
    Inpainted,
    Prompts,
    caption,
    classify,
    continue_text,
    inpaint,
)

__all__ = [
    "INSTRUCTIONS",
    "PRETRAINED",
    "VQGAN",
    "Caption",
    "Inpainted",
    "Prompts",
    "Question",
    "Rudolph",
    "RudolphConfig",
    "RudolphModel",
    "Sampling",
    "Settings",
    "Tokenizer",
    "caption",
    "classify",
    "continue_text",
    "image_perplexity",
    "inpaint",
    "perplexity",
]
