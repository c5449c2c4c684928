"""The delivery process: verdicts from the log to line controllers, in order, over ZeroMQ."""
