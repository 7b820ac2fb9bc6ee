"""Codecs: bytes of one wire format to a Request, a Response to bytes. No policy, no input or output."""
