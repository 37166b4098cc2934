"""For tests of programs that build on this project; nothing here is loaded outside of tests."""
