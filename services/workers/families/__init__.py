"""Job families, one folder each. Nothing is registered elsewhere: a folder with a contract.py is a family."""
