"""Accounts at simulated venues: what they hold and do, who may see them, and the truth about them.

How a venue tells of an account stands with the venue.
"""
