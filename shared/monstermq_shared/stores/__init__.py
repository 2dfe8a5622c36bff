"""Stores: ports, the Memory reference and one package per database."""
