"""The contract between client and worker: messages, runs, events, and where they are kept."""
