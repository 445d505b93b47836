"""From logits to text: sampling rules and the cached engine."""
