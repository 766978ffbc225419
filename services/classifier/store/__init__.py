"""The tables of the classifier: counting events, reading domains, judging by another rule."""
