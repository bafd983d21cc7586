"""The drawn world: scenes composed of drawings and cut-out photographs, with known labels, boxes and captions."""
