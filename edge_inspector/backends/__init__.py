"""Inference runtimes behind one two-method seam."""
