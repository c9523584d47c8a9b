"""What the chapters run: one module a chapter, so that the notebooks only tell the story."""
