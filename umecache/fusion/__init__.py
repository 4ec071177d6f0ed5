"""Fusion methods, one file each, behind a lazy registry."""
