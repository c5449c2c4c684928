"""Pages for people: pure functions that write one self-contained HTML file each."""
