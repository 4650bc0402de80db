"""The verbs of the loop: observe, ask the domain, act through ports. Steps never import each other."""
