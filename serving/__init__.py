"""The model service: answers over HTTP for the one model version in a directory. It knows no registry."""
