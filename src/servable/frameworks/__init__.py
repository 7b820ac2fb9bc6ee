"""Adapters: one file per framework, imported only when that framework is named."""
