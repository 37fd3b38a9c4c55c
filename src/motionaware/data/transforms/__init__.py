"""Which frames, crops and changes of colours a clip gets."""
