"""Faults on purpose: killed stages, full disks, damaged files, hostile input."""
