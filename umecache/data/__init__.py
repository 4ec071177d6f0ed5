"""VQA-format data: reading, answer vocabularies, official scoring, download, the built-in sample."""
