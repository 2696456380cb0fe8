"""Limits: reserve before, settle after."""
