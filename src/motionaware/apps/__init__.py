"""One file a verb; each has one public function of the same name."""
