"""Stage one: run a frozen encoder once, store its token-level hidden states."""
