"""Runs that are kept: one record of each, where they are stored, and the page that shows one."""
