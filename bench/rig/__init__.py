"""What bench.py is made of: one module for each idea."""
