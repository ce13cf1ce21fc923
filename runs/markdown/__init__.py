"""Texts that people write in Markdown, as the HTML of a page. It may import neither models nor other packages of ours.

The descriptions, notes and remarks themselves are columns of `runs.models`.
"""
