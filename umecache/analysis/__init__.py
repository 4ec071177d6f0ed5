"""Tables, plots and panels of what was trained."""
