"""Servable turns a trained model into a production API and keeps it fast, safe and correct."""

__version__ = "0.1.0"
