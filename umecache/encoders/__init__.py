"""Frozen unimodal encoders behind a lazy registry."""
