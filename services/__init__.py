"""Callboard's services: each its own deployment, none imports another."""
