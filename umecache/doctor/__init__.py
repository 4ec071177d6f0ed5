"""`umecache doctor`: what this machine has and lacks, each thing tried by itself. Nothing here imports torch."""
