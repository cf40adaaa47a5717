"""The loop: `turn` (pure), the controller that observes, journals and acts around it, its store and its leader."""
