"""What `import umecache` offers beside its parts: the commands as functions, their settings, their results."""
