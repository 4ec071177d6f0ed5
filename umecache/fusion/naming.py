"""Names of features: a modality, or a layer of one. Importing this loads no torch.

modality_of("text@-4")      # "text": layers of one modality are mixed before they are fused (layer_mix.py)
"""

MARK = "@"  # between a modality and a layer, in the name of features


def modality_of(name: str) -> str:
    """`text` of `text@-4`, and of `text`."""
    return name.partition(MARK)[0]
