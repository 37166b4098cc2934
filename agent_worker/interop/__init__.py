"""Conversations for programs that were written for other libraries; one module for each."""
