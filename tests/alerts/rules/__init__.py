"""Tests of the rules that judge alerts and act."""
