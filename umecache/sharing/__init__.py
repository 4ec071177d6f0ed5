"""Stores on their way between machines: push, pull, import, and the card that goes with them.

    pull("https://example.org/vit-1a2b3c4d", "stores/vqa-v2/vit-1a2b3c4d", splits=("val",))
    push("stores/vqa-v2/vit-1a2b3c4d", "s3://bucket/vit-1a2b3c4d")

A remote is trusted with nothing: not with a path, a size, a listing or a byte. What is to be there follows from the
store's own CHECKSUMS and manifest, and what arrives is compared with them before it gets its name.
"""
