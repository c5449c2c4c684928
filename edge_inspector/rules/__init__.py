"""The rule-based inspector that the engine is measured against."""
