"""RUDOLPH in PyTorch: the model, its VQGAN and its tokenizer."""

from .config import RudolphConfig
from .modeling import RudolphModel
from .tokenizer import Tokenizer
from .vqgan import VQGAN

__all__ = ["VQGAN", "RudolphConfig", "RudolphModel", "Tokenizer"]
