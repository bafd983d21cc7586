"""Trained models to the Hub."""
