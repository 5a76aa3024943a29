"""Reading and writing the Hugging Face format: weights under transformers' names, config.json, and checks of both.

The encoder's fused query-key-value matrices are split on writing and fused on reading; otherwise only names change.
What the transformers class of a folder has no place for lies beside it in heads.safetensors, as it is. A folder of
another of FAMILIES is read as the BERT that computes the same.
"""

from bert.hub.description import load_config, save_config
from bert.hub.folder import ModelFolder, open_folder, weights_fingerprint
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
    "weights_fingerprint",
]
