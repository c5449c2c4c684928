"""Where verdicts go; each name is imported only when a station asks for it."""
