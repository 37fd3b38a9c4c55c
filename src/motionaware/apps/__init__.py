"""One command per file, with one public function of the same name."""
