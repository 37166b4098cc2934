"""The directory: records of managed conversations."""
