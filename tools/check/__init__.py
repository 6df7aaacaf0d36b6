"""Checks that hzlm holds what it says on this machine."""
