"""The Hugging Face format, in and out: weights under transformers' names, config.json, and the check of both.

Our fused query-key-value matrix is split on the way out and fused on the way in; nothing else changes but names. A
folder of RoBERTa's is read as the BERT that computes the same.
"""

from bert.hub.description import load_config, save_config
from bert.hub.folder import ModelFolder, open_folder
from bert.hub.names import to_transformers
from bert.hub.weights import LoadReport, load_weights, parameter_names, save_weights

__all__ = [
    "LoadReport",
    "ModelFolder",
    "load_config",
    "load_weights",
    "open_folder",
    "parameter_names",
    "save_config",
    "save_weights",
    "to_transformers",
]
