"""Tests of the rules that tell the class of a reply."""
