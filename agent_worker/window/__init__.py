"""What a model sees of a conversation: the policies that choose it."""
