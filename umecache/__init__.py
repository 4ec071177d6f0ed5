"""umecache."""
