"""The pages, one module for each subject: its routes, its questions and its template."""
