"""Stage two: train a fusion method and its classifier on stores."""
