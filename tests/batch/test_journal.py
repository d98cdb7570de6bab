"""The journal's promises, tried at every byte."""
