"""Where frames come from; each name is imported only when a station asks for it."""
