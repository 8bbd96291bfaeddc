"""Prompt sets and controls measured on published models, on tasks whose truth a program knows."""
